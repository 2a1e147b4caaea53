"""Deconvolution and up-sampling stages, by their definitions."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from ifa_d2.modeling.alignments import Deconvolution, Upsampling


@pytest.mark.parametrize("kernel_size", [1, 3, 4, 8, 9])
@pytest.mark.parametrize("size", [(16, 12), (14, 9)])
def test_deconvolution_stamps_kernels_on_cells(kernel_size: int, size: tuple[int, int]) -> None:
    """Each coarse cell adds its kernel around the middle of the 4 x 4 cells that it covers."""
    torch.manual_seed(0)
    method = Deconvolution(in_channels=(2, 3), strides=(4, 16), norm="", kernel_size=kernel_size)
    weight = method.layers[0].conv.weight.detach()
    fine, coarse = torch.randn(1, 2, *size), torch.randn(1, 3, 4, 3)
    canvas = torch.zeros(3, 100, 100)
    for i, j in itertools.product(range(4), range(3)):
        y, x = (40 + 4 * n + (4 - kernel_size) // 2 for n in (i, j))
        stamp = torch.einsum("c,cdyx->dyx", coarse[0, :, i, j], weight)
        canvas[:, y : y + kernel_size, x : x + kernel_size] += stamp
    expected = canvas[:, 40 : 40 + size[0], 40 : 40 + size[1]].relu()
    with torch.no_grad():
        (level,) = method([fine, coarse])
    assert torch.equal(level[0, :2], fine[0])
    assert torch.allclose(level[0, 2:], expected, atol=1e-5)


def test_small_kernels_leave_gaps() -> None:
    """Nine of 64 cells see anything at scale 8, as the paper's parameters have it."""
    method = Deconvolution(in_channels=(4, 4), strides=(4, 32), norm="")
    with torch.no_grad():
        (level,) = method([torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 4, 4)])
        assert (level[0, 4:].sum(0) > 0).sum() <= 16 * 9
        method.layers[0].conv.weight.fill_(1.0)
        (level,) = method([torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 4, 4)])
    assert (level[0, 4:] > 0).all(0).sum() == 16 * 9


def test_a_kernel_of_the_scale_keeps_constants() -> None:
    method = Deconvolution(in_channels=(2, 2), strides=(4, 16), norm="", kernel_size=4)
    method.layers[0].conv.weight.data = torch.ones(2, 2, 4, 4)
    (level,) = method([torch.zeros(1, 2, 14, 9), torch.full((1, 2, 4, 3), 0.5)])
    assert torch.equal(level[:, 2:], torch.ones(1, 2, 14, 9))


def test_stages_pass_through_the_sizes_between() -> None:
    """From 4 x 6 cells to 13 x 21 by 7 x 11, the size of a feature of twice the stride."""
    torch.manual_seed(0)
    method = Upsampling(in_channels=(2, 3), strides=(4, 16), norm="")
    fine, coarse = torch.randn(1, 2, 13, 21), torch.randn(1, 3, 4, 6)
    x = coarse
    for conv, size in zip(method.stages[1], ((7, 11), (13, 21)), strict=True):
        x = F.conv2d(x, conv.weight, conv.bias, padding=1).relu()
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    (level,) = method([fine, coarse])
    assert torch.allclose(level, torch.cat([fine, x], dim=1), atol=1e-6)


@pytest.mark.parametrize(("stride", "stages"), [(4, 0), (8, 1), (12, 2), (16, 2), (128, 5)])
def test_as_many_stages_as_the_scale_asks_for(stride: int, stages: int) -> None:
    method = Upsampling(in_channels=(2, 3), strides=(4, stride), norm="BN")
    assert [len(part) for part in method.stages] == [0, stages]
    (level,) = method(
        [torch.randn(2, 2, 33, 32), torch.randn(2, 3, -(-132 // stride), -(-128 // stride))]
    )
    assert level.shape == (2, 5, 33, 32)
