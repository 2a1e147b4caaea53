"""Geometry against SciPy and exact films; errors and masks against NumPy in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_film import draw_frame, intrinsics_of
from drawn_street import make_path, make_street
from numpy.lib.stride_tricks import sliding_window_view
from scipy.spatial.transform import Rotation
from view_synthesis import (
    inverse_pose,
    minimum_reprojection,
    photometric_error,
    pose_of,
    project,
    rotation_of,
    smoothness,
    ssim_distance,
    warp,
)


@pytest.mark.parametrize("size", [0.0, 1e-9, 5e-4, 1e-3, 0.01, 1.0, 3.0, 7.0])
def test_rotations_are_scipys(size: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    vectors *= size / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = rotation_of(torch.from_numpy(vectors))
    np.testing.assert_allclose(found, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-4, 0.3])
def test_gradients_of_rotations(size: float) -> None:
    vectors = torch.tensor([[0.6, -0.8, 0.0], [0.0, 0.6, 0.8]], dtype=torch.float64) * size
    assert torch.autograd.gradcheck(rotation_of, vectors.requires_grad_())


def test_inverse() -> None:
    rng = np.random.default_rng(1)
    pose = pose_of(*(torch.from_numpy(rng.normal(size=(4, 3))) for _ in range(2)))
    identity = torch.eye(4, dtype=pose.dtype).expand(4, 4, 4)
    torch.testing.assert_close(inverse_pose(pose) @ pose, identity)
    torch.testing.assert_close(inverse_pose(pose), pose.inverse())


@pytest.mark.parametrize("size", [(24, 32), (23, 37)])
def test_without_motion_a_picture_stays(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    depth = 1 + 50 * torch.rand(2, 1, *size, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    intrinsics = torch.from_numpy(intrinsics_of(*size)).expand(2, 3, 3)
    torch.testing.assert_close(warp(image, project(depth, pose, intrinsics)), image)


def test_a_shift_by_a_pixel() -> None:
    """A camera that moves to the right sees what was there a pixel further to the left."""
    image = torch.rand(1, 1, 5, 9, dtype=torch.float64)
    depth = torch.full((1, 1, 5, 9), 4.0, dtype=torch.float64)
    intrinsics = torch.tensor([[[8.0, 0, 4], [0, 8, 2], [0, 0, 1]]], dtype=torch.float64)
    pose = pose_of(torch.zeros(1, 3), torch.tensor([[-0.5, 0, 0]])).double()
    places = project(depth, pose, intrinsics)
    u = torch.arange(9, dtype=torch.float64).expand(5, 9)
    torch.testing.assert_close(places[0, ..., 0], u - 1)
    shifted = warp(image, places)
    torch.testing.assert_close(shifted[..., 1:], image[..., :-1])
    torch.testing.assert_close(shifted[..., 0], image[..., 0])  # outside: the nearest


def test_what_lies_behind_a_camera_is_outside() -> None:
    depth = torch.full((1, 1, 4, 6), 2.0)
    pose = pose_of(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -3.0]]))
    intrinsics = torch.tensor([[[5.0, 0, 2.4], [0, 5, 1.4], [0, 0, 1]]])
    places = project(depth, pose, intrinsics)
    assert torch.isfinite(places).all() and (places.abs().amax(-1) > 1e3).all()


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_depth_and_pose_make_the_target_of_its_neighbours(
    size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    poses, intrinsics = make_path(rng, 3), intrinsics_of(*size)
    solids = make_street(rng)
    before, target, behind = (draw_frame(solids, pose, intrinsics, *size) for pose in poses)
    images = [torch.from_numpy(one.image / 255).permute(2, 0, 1)[None] for one in (before, behind)]
    goal = torch.from_numpy(target.image / 255).permute(2, 0, 1)[None]
    depth = torch.from_numpy(np.minimum(target.depth, 1e4))[None, None]
    matrix = torch.from_numpy(intrinsics)[None]

    def errors(depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moved = [
            torch.from_numpy(np.linalg.inv(pose) @ poses[1])[None] for pose in (poses[0], poses[2])
        ]
        views = [
            warp(image, project(depth, pose, matrix))
            for image, pose in zip(images, moved, strict=True)
        ]
        found = torch.cat([photometric_error(view, goal) for view in views], 1)
        unmoved = torch.cat([photometric_error(image, goal) for image in images], 1)
        return found, unmoved

    found, unmoved = errors(depth)
    # A pixel that one neighbour does not show is seen in the other.
    least = found.amin(dim=1)
    assert least.median() < 0.015 and least.mean() < 0.035
    assert least.mean() < 0.25 * unmoved.amin(dim=1).mean()
    loss, teaches = minimum_reprojection(found, unmoved)
    assert teaches.double().mean() > 0.8
    for wrong in (1.3 * depth, depth / 1.3, depth.flip(2), torch.full_like(depth, 8.0)):
        assert minimum_reprojection(*errors(wrong))[0].mean() > 1.2 * loss.mean()


def numpy_ssim_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    padding = [(0, 0), (0, 0), (1, 1), (1, 1)]
    first, second = (
        sliding_window_view(np.pad(each, padding, mode="reflect"), (3, 3), axis=(2, 3))
        for each in (one, other)
    )
    means = first.mean((-2, -1)), second.mean((-2, -1))
    variances = first.var((-2, -1)), second.var((-2, -1))
    covariance = (first * second).mean((-2, -1)) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    below = (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    return np.clip((1 - above / below) / 2, 0, 1)


def numpy_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = 0.85 * numpy_ssim_distance(one, other) + 0.15 * np.abs(one - other)
    return both.mean(axis=1)


@pytest.mark.parametrize("size", [(8, 12), (7, 11)])
def test_minimum_and_mask_are_numpys(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    goal, *images = rng.random((5, 2, 3, *size))
    images[0][:, :, :4] = goal[:, :, :4] + 0.01  # where a view is best,
    images[2][:, :, :, :5] = goal[:, :, :, :5]  # and where nothing moved
    views, sources = images[:2], images[2:]
    errors = np.stack([numpy_error(one, goal) for one in views], 1)
    unmoved = np.stack([numpy_error(one, goal) for one in sources], 1)
    expected = np.minimum(errors.min(1), unmoved.min(1))
    mask = errors.min(1) < unmoved.min(1)
    assert 0.1 < mask.mean() < 0.9
    tensors = [torch.from_numpy(one) for one in (goal, *images)]
    np.testing.assert_allclose(
        ssim_distance(tensors[0], tensors[1]), numpy_ssim_distance(goal, images[0]), atol=1e-9
    )
    found = [
        torch.cat([photometric_error(one, tensors[0]) for one in part], 1)
        for part in (tensors[1:3], tensors[3:])
    ]
    loss, teaches = minimum_reprojection(*found)
    np.testing.assert_allclose(loss, expected, atol=1e-9)
    np.testing.assert_array_equal(teaches, mask)


def test_where_nothing_moves_nothing_teaches() -> None:
    goal = torch.rand(1, 3, 9, 11)
    error = photometric_error(goal, goal)
    assert error.abs().max() < 1e-6
    _, teaches = minimum_reprojection(error.repeat(1, 2, 1, 1), error.repeat(1, 2, 1, 1))
    assert not teaches.any()


def test_smoothness() -> None:
    disparity = torch.rand(2, 1, 7, 9, dtype=torch.float64) + 0.1
    flat = torch.full((2, 3, 7, 9), 0.5, dtype=torch.float64)
    normal = disparity / disparity.mean(dim=(2, 3), keepdim=True)
    slopes = [normal.diff(dim=dim).abs() for dim in (2, 3)]
    torch.testing.assert_close(smoothness(disparity, flat), sum(one.mean() for one in slopes))
    # The scale of the disparity is nothing to it, and edges of the image excuse slopes.
    torch.testing.assert_close(smoothness(7 * disparity, flat), smoothness(disparity, flat))
    image = torch.rand_like(flat)
    weights = [(-image.diff(dim=dim).abs().mean(1, True)).exp() for dim in (2, 3)]
    expected = sum((s * w).mean() for s, w in zip(slopes, weights, strict=True))
    torch.testing.assert_close(smoothness(disparity, image), expected)
    assert smoothness(disparity, image) < smoothness(disparity, flat)
    assert smoothness(torch.ones_like(disparity), image) == 0


def test_gradients_reach_depth_and_pose() -> None:
    image = F.interpolate(torch.rand(1, 3, 6, 8, dtype=torch.float64), (12, 16), mode="bilinear")
    depth = (3 + torch.rand(1, 1, 12, 16, dtype=torch.float64)).requires_grad_()
    motion = torch.tensor([[0.01, -0.02, 0.015]], dtype=torch.float64).requires_grad_()
    intrinsics = torch.from_numpy(intrinsics_of(12, 16))[None]
    pose = pose_of(motion, 10 * motion)
    warp(image, project(depth, pose, intrinsics)).square().sum().backward()
    assert (depth.grad != 0).double().mean() > 0.8 and (motion.grad != 0).all()
