"""Matrices of transforms, and distances between them."""

import math

import pytest
import torch
from tile_transforms import (
    MAX_ANGLE,
    MAX_PERSPECTIVE,
    MAX_SCALE,
    MAX_SHIFT,
    TRANSFORMS,
    euclidean_distance,
    from_matrices,
    geodesic_distance,
    random_transforms,
    rotation,
    to_matrices,
)
from torch import Tensor

IDENTITY = torch.eye(3, dtype=torch.float64)


def near_identity(count: int = 5, by: float = 0.3) -> Tensor:
    return IDENTITY + by * torch.randn(count, 3, 3, dtype=torch.float64)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_entries_and_matrices_are_one_another(transform: str) -> None:
    values = torch.randn(4, len(TRANSFORMS[transform]))
    matrices = to_matrices(values, transform)
    torch.testing.assert_close(from_matrices(matrices, transform), values)
    assert (matrices[:, 2, 2] == 1).all()
    assert transform == "homography" or (matrices[:, 2, :2] == 0).all()
    assert torch.equal(to_matrices(0 * values, transform), torch.eye(3).expand(4, 3, 3))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_random_transforms_fill_their_ranges(transform: str) -> None:
    drawn = random_transforms(4000, transform, torch.Generator().manual_seed(0))
    assert drawn[:, :2, 2].abs().max() == pytest.approx(2 * MAX_SHIFT, rel=0.01)
    scales = drawn[:, :2, :2].square().sum(dim=1).sqrt()  # the columns of a rotation times a scale
    assert scales.max() == pytest.approx(MAX_SCALE, rel=0.01)
    assert scales.min() == pytest.approx(1 / MAX_SCALE, rel=0.01)
    angles = torch.atan2(-drawn[:, 1, 0], drawn[:, 0, 0])
    assert angles.abs().max() == pytest.approx(MAX_ANGLE, rel=0.01)
    assert drawn[:, 2, :2].abs().max() == pytest.approx(
        MAX_PERSPECTIVE if transform == "homography" else 0, rel=0.01
    )


@pytest.mark.parametrize("distance", [euclidean_distance, geodesic_distance])
def test_distances_are_zero_of_the_same_and_grow(distance) -> None:
    same = near_identity(by=0.1)
    assert distance(same, same).abs().max() < 1e-7
    turns = rotation(torch.linspace(0, 1.5, 7, dtype=torch.float64))
    found = distance(IDENTITY.expand(7, 3, 3), turns)
    assert found[0] == 0 and (found.diff() > 0.1).all()


def test_geodesic_distance_of_rotations_is_their_angle() -> None:
    angles = torch.linspace(-3.1, 3.1, 9, dtype=torch.float64)
    found = geodesic_distance(IDENTITY.expand(9, 3, 3), rotation(angles))
    torch.testing.assert_close(found, angles.abs())
    start = rotation(torch.full((9,), 0.4, dtype=torch.float64))
    torch.testing.assert_close(geodesic_distance(start, start @ rotation(angles)), angles.abs())


def test_geodesic_distance_is_its_formula() -> None:
    theta, estimate = near_identity(by=0.2), near_identity()
    estimate[0, 0] *= -1  # a reflection, too
    product = torch.linalg.inv(theta) @ estimate
    for index, one in enumerate(product):
        left, _, right = torch.linalg.svd(one)
        signs = torch.diag(torch.tensor([1, 1, torch.linalg.det(left @ right)]))
        nearest = left @ signs.double() @ right
        rest = one - nearest
        for weight in (0.1, 0.7):
            expected = math.acos((nearest.trace() - 1) / 2) + weight * (rest.T @ rest).trace()
            found = geodesic_distance(theta, estimate, weight)[index]
            assert found.item() == pytest.approx(expected.item(), abs=1e-10)


def test_gradients_are_right_and_finite_where_singular_values_are_equal() -> None:
    theta, estimate = near_identity(by=0.1), near_identity()
    estimate[0, 0] *= -1
    for distance in (euclidean_distance, geodesic_distance):
        assert torch.autograd.gradcheck(
            distance, (theta.requires_grad_(), estimate.requires_grad_())
        )
    turned = rotation(torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)).requires_grad_()
    geodesic_distance(IDENTITY.expand(3, 3, 3), turned).sum().backward()
    assert turned.grad.isfinite().all()
    assert turned.grad[0].norm() == 0 and (turned.grad[1:].flatten(1).norm(dim=1) > 0.5).all()
