"""The cost of others' upsamplers, by hand and by what their methods say."""

import pytest

from ifa_d2.analysis.benchmarks import run_upsamplers
from ifa_d2.analysis.benchmarks.upsamplers import CHANNELS, reckon, window_cells


def test_by_hand() -> None:
    """FeatUp and NAF cost the same at each pixel, whatever the picture's size."""
    step = 3 * 32 + 32 * 32 + 49 * 32 + 52 * 49 + 49 * 49 + 49 * 384
    feat_up = step * (1 + 1 / 4 + 1 / 16 + 1 / 64) + 384 * 384 + 384 * 10
    encoders = (3 + 4 * 128) * 128 * (1 + 9)
    for cells in (14, 128):
        found = reckon(cells, 10)
        assert found["FeatUp"] == (pytest.approx(feat_up), (384 + 32 + 49 + 384) * 4)
        assert found["NAF"][0] == encoders + 81 * (256 + 384) + 384 * 10
        assert found["NAF"][1] == (384 + 512 + 4 * 81) * 4


def test_attention_to_all_cells_grows_with_them() -> None:
    small, large = reckon(28, 10), reckon(56, 10)
    grown = 56**2 - 28**2
    assert large["JAFAR"][0] - small["JAFAR"][0] == grown * (128 + CHANNELS)
    assert large["JAFAR"][1] - small["JAFAR"][1] == grown * 4 * 4
    # A window of a fifth of each side, but for borders and rounding.
    for found, cells in ((small, 28), (large, 56)):
        part = found["AnyUp"][0] / found["JAFAR"][0]
        assert 0.04 < window_cells(cells, 0.1) ** 2 / cells**2 < 0.08 and part < 1


def test_windows_are_counted_cell_by_cell() -> None:
    """Of ten cells, a tenth to each side: three of them or, at the borders, two."""
    assert window_cells(10, 0.1) == pytest.approx((8 * 3 + 2 * 2) / 10)
    assert window_cells(10, 1.0) == 10


def test_sides_are_whole_cells() -> None:
    with pytest.raises(ValueError, match="sides must be multiples of 16, got 40"):
        run_upsamplers(sides=[32, 40], num_classes=3, repeats=1, device="cpu", max_gib=1)
