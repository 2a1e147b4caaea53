"""What the networks see and make; the network from depth to segmentation above all."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from depth_networks import DepthNetwork, DepthToSegmentation
from torch import nn

from ifa_d2.modeling import TimmBackbone
from tests.projects.XDistill.film_data import tiny_model


def test_depth_network() -> None:
    network = tiny_model(num_scales=3).depth_net
    scales = network(torch.randn(2, 3, 24, 40))
    assert [tuple(one.shape) for one in scales] == [(2, 1, 24, 40), (2, 1, 12, 20), (2, 1, 6, 10)]
    assert all(((one > 0) & (one < 1)).all() for one in scales)
    found = network.to_depth(torch.tensor([0.0, 1.0, 0.5]))
    expected = torch.tensor([100.0, 0.1, 1 / (0.01 + 9.99 / 2)])
    torch.testing.assert_close(found, expected)


def test_segmentation_sees_depth_alone() -> None:
    """A constant depth has one answer everywhere, the rim included, whatever the depth is."""
    torch.manual_seed(1)
    head = DepthToSegmentation(num_groups=4)
    answers = [head(torch.full((1, 1, 9, 13), value)) for value in (0.03, 0.4, 1.0)]
    first = answers[0][:, :, :1, :1]
    for one in answers:
        torch.testing.assert_close(one, first.expand_as(one))
    # Nor does it know a position: a step has one answer wherever it is.
    steps = []
    for edge in (8, 12):
        disparity = torch.full((1, 1, 9, 24), 0.5)
        disparity[..., edge:] = 1.5
        steps.append(head.layers(disparity)[..., edge - 4 : edge + 4])
    torch.testing.assert_close(*steps)


def test_labels_cannot_be_fitted_with_a_constant_depth_and_can_with_a_true_one() -> None:
    torch.manual_seed(2)
    groups = torch.zeros(1, 16, 24, dtype=torch.long)
    groups[:, 8:, :] = 1
    groups[:, 2:6, 3:9] = 2
    depth = torch.tensor([0.2, 0.5, 0.9])[groups][:, None]
    shares = groups.flatten().bincount() / groups.numel()
    entropy = -(shares * shares.log()).sum().item()
    least = {}
    for name, disparity in (("constant", torch.full_like(depth, 0.5)), ("true", depth)):
        head = DepthToSegmentation(num_groups=3, channels=16, loss_weight=1.0)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            loss = head.loss(disparity, groups)
            loss.backward()
            optimizer.step()
        least[name] = loss.item()
    assert least["constant"] > 0.999 * entropy > 0.9 * math.log(2)
    assert least["true"] < 0.1 * entropy


def test_loss_is_a_weighted_cross_entropy() -> None:
    torch.manual_seed(3)
    head = DepthToSegmentation(num_groups=3, loss_weight=0.5, group_weights=[1, 2, 0.5])
    disparity = torch.rand(2, 1, 7, 9) + 0.1
    groups = torch.randint(3, (2, 7, 9))
    groups[0, :2] = 255
    logits = head(disparity)
    torch.testing.assert_close(head(5 * disparity), logits)  # the scale is nothing to it
    each = F.cross_entropy(logits, groups.clamp(max=2), reduction="none")
    weights = torch.tensor([1, 2, 0.5])[groups.clamp(max=2)]
    known = groups != 255
    expected = 0.5 * (each * weights)[known].mean()
    torch.testing.assert_close(head.loss(disparity, groups), expected)
    nothing = head.loss(disparity.requires_grad_(), torch.full_like(groups, 255))
    nothing.backward()
    assert nothing == 0 and not disparity.grad.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_groups": 1}, "num_groups must be at least 2, got 1"),
        ({"loss_weight": -0.1}, "loss_weight must be 0 or above, got -0.1"),
        ({"group_weights": [1.0]}, r"group_weights must be 3 numbers, .* got \[1.0\]"),
    ],
)
def test_mistakes_of_the_teacher_head(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DepthToSegmentation(**{"num_groups": 3} | changes)


def test_labels_that_do_not_fit() -> None:
    head = DepthToSegmentation(num_groups=3)
    disparity = torch.rand(1, 1, 6, 8)
    with pytest.raises(ValueError, match=r"groups below num_groups, 3, or 255, got \[3, 200\]"):
        head.loss(disparity, torch.tensor([0, 3, 200, 255]).repeat(1, 6, 2))
    with pytest.raises(ValueError, match=r"the frames' \(height, width\), \(6, 8\), got \(3, 4\)"):
        head.loss(disparity, torch.zeros(1, 3, 4, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": [4, 6]}, "channels must be 3 numbers, as many as .* features, got"),
        ({"num_scales": 4}, "num_scales must be from 1 to 3, got 4"),
        ({"min_depth": 0}, "min_depth must be above 0 and below max_depth, got 0 and 100"),
        ({"max_depth": 0.1}, "below max_depth, got 0.1 and 0.1"),
        ({"backbone": [1, 3]}, r"features of strides 2, 4, 8 and so on, got \[4, 16\]"),
    ],
)
def test_mistakes_of_the_depth_network(changes: dict[str, Any], words: str) -> None:
    indices = changes.pop("backbone", [0, 1, 2])
    features = ["a", "b", "c"][: len(indices)]
    backbone = TimmBackbone(model_name="test_resnet", out_features=features, out_indices=indices)
    assert isinstance(backbone, nn.Module)
    with pytest.raises(ValueError, match=words):
        DepthNetwork(backbone=backbone, **{"channels": [4, 6, 8], "num_scales": 2} | changes)
