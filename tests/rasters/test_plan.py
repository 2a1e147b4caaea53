"""Blocks cover an answer once, and know the windows that touch them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.rasters import plan, plan_raster


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scale=st.sampled_from([0.3, 1.0, 1.7]),
    window=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    stride=st.floats(0.2, 1),
    sums=st.integers(1, 4000),
    most=st.integers(1, 12),
)
def test_blocks_cover_the_answer(size, scale, window, stride, sums, most):
    output = tuple(max(1, round(side * scale)) for side in size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_SUM_BYTES", 4 * sums)
        patch.setattr(plan, "_BLOCK_WINDOWS", most)
        made = plan_raster(size, output, 1, multiple=4, window=window, stride=stride)
    assert all(side % 4 == 0 for side in made.stride)
    counts, weights = np.zeros(output, int), np.zeros(output)
    for block in made.blocks:
        place = (block.rows, block.cols)
        counts[place] += 1
        assert counts[place].shape == block.size and block.num_windows >= 1
        for row in block.row_spans:
            assert block.rows.start <= row.samples.start < row.samples.stop <= block.rows.stop
            for col in block.col_spans:
                assert row.begin % 4 == col.begin % 4 == 0
                weights[row.samples, col.samples] += np.outer(row.weights, col.weights)
        height = max(row.samples.stop - row.samples.start for row in block.row_spans)
        assert block.size[1] == 1 or height * block.size[1] <= max(sums, height)
    assert (counts == 1).all()
    assert np.allclose(weights, 1, atol=1e-5)


def test_sums_of_many_classes_make_narrow_blocks():
    size = (20_000, 20_000)
    few, many = (
        plan_raster(size, size, count, multiple=32, window=(512, 512)) for count in (11, 150)
    )
    widest = [max(block.size[1] for block in made.blocks) for made in (few, many)]
    assert widest[0] > 4 * 342 and widest[1] < 342
    assert few.stride == (320, 320)
    # What is computed twice, where blocks meet.
    once = (20_000 / 320) ** 2
    assert sum(block.num_windows for block in few.blocks) < 1.4 * once


def test_windows_smaller_than_what_is_padded_to():
    with pytest.raises(ValueError, match=r"window must be at least 32 pixels .*got \(31, 64\)"):
        plan_raster((100, 100), (100, 100), 4, multiple=32, window=(31, 64))
    with pytest.raises(ValueError, match="blend must be one of"):
        plan_raster((100, 100), (100, 100), 4, multiple=32, blend="none")
