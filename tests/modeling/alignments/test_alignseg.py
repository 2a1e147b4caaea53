"""AlignSeg's learned offsets."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ifa_d2.modeling.alignments import AlignSeg
from ifa_d2.modeling.alignments.alignseg import (
    ContextAlignment,
    FeatureAlignment,
    pool_mean,
    take_at_offsets,
)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 9)])
def test_no_offset_is_the_map_itself(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.allclose(take_at_offsets(x, torch.zeros(2, 2, *size)), x, atol=1e-5)


def test_offsets_are_y_then_x_in_cells() -> None:
    x = torch.randn(1, 3, 6, 8)
    offsets = torch.zeros(1, 2, 6, 8)
    offsets[:, 0], offsets[:, 1] = 2, -1
    moved = take_at_offsets(x, offsets)
    assert torch.allclose(moved[:, :, :4, 1:], x[:, :, 2:, :7], atol=1e-5)
    # beyond the border a map goes on as it ends
    assert torch.allclose(moved[:, :, 4:, 1:], x[:, :, 5:, :7].expand(-1, -1, 2, -1), atol=1e-5)
    offsets[:, 0], offsets[:, 1] = 0, 0.25
    moved = take_at_offsets(x, offsets)
    assert torch.allclose(moved[..., :7], 0.75 * x[..., :7] + 0.25 * x[..., 1:], atol=1e-5)


def test_no_offset_at_another_size_is_bilinear() -> None:
    x = torch.randn(2, 3, 3, 3)
    expected = F.interpolate(x, size=(7, 10), mode="bilinear", align_corners=False)
    assert torch.allclose(take_at_offsets(x, torch.zeros(2, 2, 7, 10)), expected, atol=1e-5)


def test_constants_stay_under_any_offset() -> None:
    x = torch.randn(2, 3, 1, 1).expand(-1, -1, 5, 6)
    moved = take_at_offsets(x, 10 * torch.randn(2, 2, 9, 4))
    assert torch.allclose(moved, x[..., :1, :1].expand(-1, -1, 9, 4), atol=1e-5)


def test_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(take_at_offsets, (x, offsets))


@pytest.mark.parametrize("size", [(1, 2), (3, 5), (7, 33), (10, 11)])
def test_pool_mean(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.allclose(pool_mean(x, 3), F.adaptive_avg_pool2d(x, 3), atol=1e-6)


def test_it_begins_as_bilinear_addition() -> None:
    module = FeatureAlignment(4, norm="BN")
    fine, coarse = torch.randn(2, 4, 9, 7), torch.randn(2, 4, 5, 4)
    expected = fine + F.interpolate(coarse, size=(9, 7), mode="bilinear", align_corners=False)
    assert torch.allclose(module(fine, coarse), expected, atol=1e-5)


def test_context_is_added_to_its_feature() -> None:
    module = ContextAlignment(6, 4, norm="BN").eval()
    x = torch.randn(2, 6, 8, 5)
    with torch.no_grad():
        context = module.adapt_context(F.adaptive_avg_pool2d(x, 3))
        expected = module.adapt(x) + F.interpolate(
            context, size=(8, 5), mode="bilinear", align_corners=False
        )
        assert torch.allclose(module(x), expected, atol=1e-5)


def test_learns_to_move_a_map() -> None:
    """A coarse map whose border is a cell off: offsets from the two bring it to its place."""
    torch.manual_seed(0)
    module = FeatureAlignment(4, norm="")
    square = torch.zeros(1, 1, 12, 12)
    square[:, :, 4:9, 4:9] = 1
    fine = square.expand(-1, 4, -1, -1) * torch.tensor([1.0, -1.0, 0.5, 0.0]).view(1, 4, 1, 1)
    coarse = fine.roll(1, dims=3)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)

    def loss() -> torch.Tensor:
        return (module(fine, coarse) - 2 * fine).square().mean()

    first = loss().item()
    for _ in range(60):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss().item() < 0.2 * first


def test_the_coarsest_feature_is_seen_as_it_was() -> None:
    method = AlignSeg(in_channels=(4, 4, 10), strides=(4, 8), norm="BN").eval()
    assert method.context.adapt[0].weight.shape == (10, 10, 1, 1)
    assert isinstance(method.refine_levels, nn.ModuleList) and len(method.refine_levels) == 3
    levels = [torch.randn(1, 4, 9, 9), torch.randn(1, 4, 5, 5), torch.randn(1, 10, 5, 5)]
    with torch.no_grad():
        (left,) = method(levels)
        (right,) = method([*levels[:2], levels[2] + torch.randn(1, 10, 1, 1)])
    assert not torch.allclose(left, right)
