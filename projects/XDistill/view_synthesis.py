"""Views of a scene from other places, and how a pair of views differs (the Monodepth2 scheme).

Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019, Sec. 3, whose
formulas these are.

Pixels are (u, v), to the right and downwards, (0, 0) is the middle of the upper left one; cameras
look along z, with y downwards. Shape legend: B batch, S source frames, C channels, H x W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_MIN_Z = 1e-6  # of a point in front of the camera, in the unit of depth
_SMALL_ANGLE = 1e-3  # below which sin(x) / x is a polynomial; in radians


def rotation_of(axis_angle: Tensor) -> Tensor:
    """Map rotation vectors (B, 3), in radians along their axes, to matrices (B, 3, 3)."""
    squared = axis_angle.square().sum(dim=1)[:, None, None]
    small = squared < _SMALL_ANGLE**2
    # Where it is small the root's gradient is not finite, and is not used.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angle.unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    identity = torch.eye(3, dtype=cross.dtype, device=cross.device)
    return identity + sine * cross + cosine * cross @ cross


def pose_of(axis_angle: Tensor, translation: Tensor) -> Tensor:
    """Poses (B, 4, 4) that turn points, and then move them.

    Args:
        axis_angle: see :func:`rotation_of`.
        translation: (B, 3).
    """
    upper = torch.cat([rotation_of(axis_angle), translation[:, :, None]], dim=2)
    lower = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(upper), 1, 4)
    return torch.cat([upper, lower], dim=1)


def inverse_pose(pose: Tensor) -> Tensor:
    """Invert poses (B, 4, 4), which turn and move."""
    back = pose[:, :3, :3].transpose(1, 2)
    upper = torch.cat([back, -back @ pose[:, :3, 3:]], dim=2)
    return torch.cat([upper, pose[:, 3:]], dim=1)


def project(depth: Tensor, pose: Tensor, intrinsics: Tensor) -> Tensor:
    """Find where the points behind a target's pixels are in a source frame.

    Args:
        depth: (B, 1, H, W) of the target along its optical axis.
        pose: (B, 4, 4) from the target's coordinates to the source's.
        intrinsics: (B, 3, 3) of both, in pixels.

    Returns:
        Pixels (B, H, W, 2), (u, v), of the source; far outside for points behind its camera.
    """
    batch, _, height, width = depth.shape
    v, u = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device),
        torch.arange(width, dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)]).view(1, 3, -1)
    points = torch.linalg.solve(intrinsics, pixels.expand(batch, 3, -1)) * depth.view(batch, 1, -1)
    seen = intrinsics @ (pose[:, :3, :3] @ points + pose[:, :3, 3:])
    places = seen[:, :2] / seen[:, 2:].clamp(min=_MIN_Z)
    return places.view(batch, 2, height, width).permute(0, 2, 3, 1)


def warp(source: Tensor, places: Tensor) -> Tensor:
    """Sample sources (B, C, H, W) at pixels (B, h, w, 2); outside, the nearest pixel is taken."""
    size = places.new_tensor([source.shape[3], source.shape[2]])
    grid = (2 * places + 1) / size - 1
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)


def _mean_of_nine(image: Tensor) -> Tensor:
    """Average 3x3 pixels; avg_pool2d takes many times as long on a CPU."""
    rows = image[..., :-2, :] + image[..., 1:-1, :] + image[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def ssim_distance(one: Tensor, other: Tensor) -> Tensor:
    """Compute (1 - SSIM) / 2 of images in [0, 1], with means over 3x3 pixels, (B, C, H, W)."""
    one, other = (F.pad(each, (1, 1, 1, 1), mode="reflect") for each in (one, other))
    mean_one, mean_other = _mean_of_nine(one), _mean_of_nine(other)
    var_one = _mean_of_nine(one.square()) - mean_one.square()
    var_other = _mean_of_nine(other.square()) - mean_other.square()
    covariance = _mean_of_nine(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    below = (mean_one.square() + mean_other.square() + _SSIM_C1) * (var_one + var_other + _SSIM_C2)
    return ((1 - above / below) / 2).clamp(0, 1)


def photometric_error(one: Tensor, other: Tensor, ssim_weight: float = 0.85) -> Tensor:
    """Compare images in [0, 1], (B, 1, H, W): a mean over channels of SSIM's distance and L1."""
    absolute = (one - other).abs()
    return (ssim_weight * ssim_distance(one, other) + (1 - ssim_weight) * absolute).mean(1, True)


def minimum_reprojection(errors: Tensor, unmoved: Tensor) -> tuple[Tensor, Tensor]:
    """Take each pixel's least error, and tell which pixels teach.

    A pixel teaches where a view from the predicted place explains it better than a source frame as
    it is: not where camera and scene stand still, or something moves along (auto-masking).

    Args:
        errors: (B, S, H, W) of views from the predicted place.
        unmoved: (B, S, H, W) of the source frames as they are.

    Returns:
        The least of all errors (B, H, W), whose mean is the loss, and (B, H, W) bool.
    """
    least, still = errors.amin(dim=1), unmoved.amin(dim=1)
    teaches = least < still
    return torch.where(teaches, least, still), teaches


def smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """Mean absolute slope of a disparity over its mean, less where the image has an edge.

    Args:
        disparity: (B, 1, H, W), not negative.
        image: (B, C, H, W) in [0, 1].
    """
    disparity = disparity / (disparity.mean(dim=(2, 3), keepdim=True) + 1e-7)
    total = disparity.new_zeros(())
    for dim in (2, 3):
        slope = disparity.diff(dim=dim).abs()
        edge = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        total = total + (slope * (-edge).exp()).mean()
    return total
