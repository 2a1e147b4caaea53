"""Instances of heat maps, against Detectron2's own grouping."""

import pytest
import torch
from instance_maps import instance_maps
from panoptic_deeplab import find_instance_center, group_pixels

SIZES = [(9, 13), (16, 8), (2, 7)]


def noise(size: tuple[int, int], batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(sum(size))
    return torch.rand(batch, 1, *size), 3 * torch.randn(batch, 2, *size), torch.rand(batch, *size)


@pytest.mark.parametrize("size", SIZES)
def test_centres_and_cells_are_those_of_detectron2(size: tuple[int, int]) -> None:
    centers, offsets, share = noise(size)
    masks, scores = instance_maps(centers, offsets, share, max_instances=60, threshold=0.5)
    for one, heat in enumerate(centers):
        points = find_instance_center(heat.clone(), threshold=0.5, nms_kernel=3)
        found = scores[one] > 0
        expected = heat[0][points[:, 0], points[:, 1]].sort(descending=True)
        torch.testing.assert_close(scores[one][found], expected.values)
        owner = group_pixels(points[expected.indices].float(), offsets[one])[0] - 1
        for slot in range(len(points)):
            torch.testing.assert_close(masks[one, slot], (owner == slot) * share[one])
        # Every cell is in one map, and no more in any.
        torch.testing.assert_close(masks[one].sum(dim=0), share[one])


def test_the_most_confident_are_taken_and_slots_are_filled_up() -> None:
    centers, offsets, share = noise((9, 13))
    whole = instance_maps(centers, offsets, share, max_instances=60)
    few = instance_maps(centers, offsets, share, max_instances=3)
    assert few[0].shape == (2, 3, 9, 13)
    torch.testing.assert_close(few[1], whole[1][:, :3])
    count = int((whole[1][0] > 0).sum())
    assert 3 < count < 60 and not whole[1][0, count:].any() and not whole[0][0, count:].any()
    cells = instance_maps(centers, offsets, share, max_instances=1000)
    assert cells[1].shape == (2, 9 * 13)
    torch.testing.assert_close(cells[0][:, :60], whole[0])


def test_no_instances() -> None:
    centers, offsets, share = noise((6, 5))
    centers = (0.1 * centers).requires_grad_()
    masks, scores = instance_maps(centers, offsets, share, max_instances=4)
    assert masks.shape == (2, 4, 6, 5) and not masks.any() and not scores.any()
    (masks.sum() + scores.sum()).backward()
    assert not centers.grad.any()


def test_gradients_reach_heat_and_shares_alone() -> None:
    maps = [part.requires_grad_() for part in noise((9, 13))]
    masks, scores = instance_maps(*maps, max_instances=5)
    (masks * torch.rand(masks.shape)).sum().backward(retain_graph=True)
    centers, offsets, share = maps
    assert share.grad.abs().min() > 0 and offsets.grad is None and centers.grad is None
    scores.sum().backward()
    assert int(centers.grad.sum()) == int((scores > 0).sum()) == 10
