"""What Table 1's methods cost, beside the paper's figures, and what Table 4's rows are made of."""

import pytest
import torch
from torch import nn

from ifa_d2 import get_config
from ifa_d2.analysis.cost import DENSE, build_on_meta, count_model
from ifa_d2.engine.run import load_config
from ifa_d2.layers import PositionEncoding
from ifa_d2.modeling import use_alignment


def build(alignment: str, **options: str) -> nn.Module:
    """R-50 with another alignment than "ifa"."""
    cfg = get_config("cityscapes/ifa_r50.py")
    if alignment != "ifa":
        use_alignment(cfg.model.sem_seg_head, alignment, **options)
    return build_on_meta(cfg)


def count(model: nn.Module) -> tuple[int, dict[str, int]]:
    """Parameters, and the paper's multiply-adds by part, at 1024 x 1024."""
    with torch.no_grad():
        macs = count_model(model, (1024, 1024), round_up=True, textbook=True)
    return sum(parameter.numel() for parameter in model.parameters()), macs


@pytest.mark.parametrize(
    ("alignment", "millions", "billions"),
    [
        ("bilinear", 27.7, 183.4),
        ("nearest", 27.7, 183.4),
        ("deconvolution", 29.5, 304.4),
        ("upsampling", 31.0, 219.1),
        ("carafe", 29.0, 190.5),
        ("alignseg", 49.7, 348.6),
        ("ifa", 27.8, 186.9),
    ],
)
def test_table_1(alignment: str, millions: float, billions: float) -> None:
    params, macs = count(build(alignment))
    assert params / 1e6 == pytest.approx(millions, rel=0.03)
    assert sum(macs.values()) / 1e9 == pytest.approx(billions, rel=0.03)


def test_deconvolution_is_counted_over_its_output() -> None:
    """By the paper's way alone: what runs takes each weight once a cell of the input."""
    _, macs = count(model := build("deconvolution"))
    kernel = 9 * 256 * 256
    # 33, 65 and 129 cells, spread to 8 * 32 + 3, 4 * 64 + 3, 2 * 128 + 3
    assert macs[DENSE] == 3 * kernel * 259**2
    with torch.no_grad():
        ours = count_model(model, (256, 256), round_up=False, textbook=False)
    assert ours[DENSE] == kernel * (32**2 + 16**2 + 8**2)


def test_weighted_sums_are_counted() -> None:
    cells = {2: 129**2, 4: 65**2, 8: 33**2}
    _, macs = count(build("carafe"))
    sums = sum(25 * 256 * s * s * n for s, n in cells.items())
    kernels = sum((256 * 64 + 9 * 64 * 25 * s * s) * n for s, n in cells.items())
    assert macs[DENSE] == sums + kernels
    # SAPA: no figure of the paper
    _, macs = count(build("sapa", similarity="inner"))
    assert macs[DENSE] == 2 * sums
    params, macs = count(build("sapa", similarity="bilinear"))
    similarities = sums // 256 * 64
    embeddings = 256 * 64 * (3 * 257**2 + sum(cells.values()))
    assert macs[DENSE] == sums + similarities + embeddings
    assert params - count(build("bilinear"))[0] == 3 * (2 * (256 + 1) * 64 + 4 * 256)


@pytest.mark.parametrize(
    ("encoding", "columns"),
    [("none", 0), ("coord", 2), ("sine", 14), ("cosine", 14), ("fixed", 26), ("learned", 26)],
)
def test_table_4(encoding: str, columns: int) -> None:
    """An offset becomes so many columns a level."""
    override = f"model.sem_seg_head.alignment.encoding={encoding}"
    _, macs = count(build_on_meta(load_config("cityscapes/ifa_r50.py", [override])))
    first = macs["alignment, first layer"]
    assert first == 257**2 * 4 * (256 + columns) * 512


@pytest.mark.parametrize("dimensions", [12, 24, 36, 48, 60, 72])
def test_figure_3(dimensions: int) -> None:
    """The paper's dimensions are sines and cosines of two axes, without the offset itself."""
    encoding = PositionEncoding(num_frequencies=dimensions // 4)
    assert encoding.num_features == dimensions + 2
    offsets, widths = torch.rand(2, 5), torch.zeros(2, 5)
    assert encoding(tuple(offsets), tuple(widths)).shape == (5, dimensions + 2)
