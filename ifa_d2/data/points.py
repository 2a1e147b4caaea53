"""Labelled points for training: their sampling, labels and footprints.

Coordinates are (y, x), from 0 at the top or left border of an image to 1 at its bottom or right
one; a pixel ``i`` of ``n`` covers ``i / n`` to ``(i + 1) / n``.

Shape legend: B images, H x W pixels of a label map, P points.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import Transform
from torch import Tensor

POINT_SAMPLINGS = ("uniform", "boundary", "class_balanced", "balanced_boundary")
# Points keep this far, in pixels, from the border of the pixel they were drawn in, so that
# rounding to float32 does not carry them over it (up to 8000 pixels a side).
_MARGIN = 1e-3


@dataclass(frozen=True)
class PointSampler:
    """Draw points at continuous coordinates from label maps.

    A labelled pixel is drawn, then a place inside it. The first :attr:`num_uniform` points are
    uniform, for statistics over them; the others follow ``sampling``. An image that
    has no pixel to draw from (no boundary, no label at all) gives uniform points instead.

    Attributes:
        num_points: P, of each image.
        sampling: ``"uniform"``; ``"boundary"``, uniform over the pixels of :func:`near_boundary`;
            ``"class_balanced"``, each class of the image as often as any other;
            ``"balanced_boundary"``, each class as often as any other, from its pixels near a
            boundary.
        importance_ratio: share of the points that are not uniform, where ``sampling`` is another.
            (PointRend's 0.75, Kirillov et al. 2020, Sec. 3.1.)
        boundary_width: distance in pixels up to which a pixel is near a boundary.
        ignore_value: label of pixels that do not count.
        balance: strength of the balanced samplings: the classes of an image are drawn in
            proportion to their pixels to the power ``1 - balance``. 1 draws them equally often, 0.5
            by the square root of their pixels.

    Raises:
        ValueError: an attribute out of its range, or a share that leaves no uniform point.
    """

    num_points: int
    sampling: str = "uniform"
    importance_ratio: float = 0.75
    boundary_width: int = 4
    ignore_value: int = 255
    balance: float = 1.0

    def __post_init__(self) -> None:
        if self.num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {self.num_points}")
        if self.sampling not in POINT_SAMPLINGS:
            raise ValueError(
                f"point_sampling must be one of {POINT_SAMPLINGS}, got {self.sampling!r}"
            )
        if not 0 <= self.importance_ratio < 1:
            raise ValueError(f"importance_ratio must be in [0, 1), got {self.importance_ratio}")
        if self.boundary_width < 1:
            raise ValueError(f"boundary_width must be at least 1, got {self.boundary_width}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance must be in [0, 1], got {self.balance}")
        if self.num_uniform < 1:
            raise ValueError(
                f"importance_ratio {self.importance_ratio} of num_points {self.num_points} must "
                "leave at least one uniform point"
            )

    @property
    def num_uniform(self) -> int:
        """Number of points, the first ones, that are uniform over the labelled pixels."""
        if self.sampling == "uniform":
            return self.num_points
        return self.num_points - round(self.importance_ratio * self.num_points)

    def __call__(self, labels: Tensor) -> Tensor:
        """Draw points (B, P, 2) float32 of label maps (B, H, W), from torch's random state."""
        labelled = labels != self.ignore_value
        points = [_draw(labelled.double(), labelled, self.num_uniform)]
        rest = self.num_points - self.num_uniform
        if rest:
            points.append(_draw(self._weights(labels, labelled), labelled, rest))
        return torch.cat(points, dim=1)

    def _weights(self, labels: Tensor, labelled: Tensor) -> Tensor:
        """Weights of pixels (B, H, W) for drawing the points that are not uniform."""
        if self.sampling == "class_balanced":
            return _balanced(labels, labelled, self.balance)
        near = near_boundary(labels, self.boundary_width, self.ignore_value)
        if self.sampling == "boundary":
            return near.double()
        return _balanced(labels, near, self.balance)


def near_boundary(labels: Tensor, width: int, ignore_value: int) -> Tensor:
    """Mask of labelled pixels near a pixel of another class.

    Args:
        labels: (B, H, W); ignored pixels are of no class.
        width: rows and columns to the other pixel, at most.
        ignore_value: label of ignored pixels.

    Returns:
        (B, H, W) bool.
    """
    labelled = labels != ignore_value
    values = labels.float()

    def highest(values: Tensor) -> Tensor:
        values = values.masked_fill(~labelled, -torch.inf)[:, None]
        values = F.max_pool2d(values, (2 * width + 1, 1), 1, (width, 0))
        return F.max_pool2d(values, (1, 2 * width + 1), 1, (0, width))[:, 0]

    return labelled & (highest(values) != -highest(-values))


def labels_at(labels: Tensor, points: Tensor) -> Tensor:
    """Labels (B, P) at points (B, P, 2) of label maps (B, H, W).

    One outside [0, 1] has the label of the border's pixel.
    """
    height, width = labels.shape[1:]
    y = (points[..., 0].double() * height).floor().long().clamp_(0, height - 1)
    x = (points[..., 1].double() * width).floor().long().clamp_(0, width - 1)
    return labels.flatten(1).gather(1, y * width + x)


def trace_back(
    points: Tensor, transform: Transform, source_size: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Map points of a transformed image back to its source image.

    Args:
        points: (P, 2) of the transformed image.
        transform: Detectron2's transform; it must move coordinates by an affine map, as resizes,
            crops, paddings, flips and rotations do.
        source_size: (height, width) in pixels of the image before the transform.
        size: (height, width) after it.

    Returns:
        (P, 2) float64; outside [0, 1] for padding around the image.

    Raises:
        ValueError: a transform that is not affine, or not invertible.
    """
    matrix, shift = _affine(transform, source_size)
    target = points.double().flip(-1).numpy() * [size[1], size[0]]  # (x, y) in pixels
    source = (target - shift) @ np.linalg.inv(matrix).T / [source_size[1], source_size[0]]
    return torch.from_numpy(source).flip(-1)


def pixel_footprint(
    transform: Transform, source_size: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Size of a pixel of the source image in a transformed image.

    Args:
        transform, source_size, size: see :func:`trace_back`.

    Returns:
        (2,) float32 widths (y, x), as shares of the transformed image's sides.

    Raises:
        ValueError: as :func:`trace_back`.
    """
    matrix, _ = _affine(transform, source_size)
    x, y = np.abs(matrix).sum(axis=1)
    return torch.tensor([y / size[0], x / size[1]], dtype=torch.float32)


def _affine(transform: Transform, source_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (2, 2) and shift (2,) of an affine transform of (x, y) in pixels."""
    height, width = source_size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)  # (x, y)
    moved = np.asarray(transform.apply_coords(corners.copy()), np.float64)
    matrix = np.stack([(moved[1] - moved[0]) / width, (moved[2] - moved[0]) / height], axis=1)
    affine = np.allclose(corners @ matrix.T + moved[0], moved, atol=1e-4)
    if not affine or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(
            f"augmentations must be resizes, crops, paddings, flips or rotations for points to be "
            f"labelled from the annotation, got {transform}"
        )
    return matrix, moved[0]


def _balanced(labels: Tensor, chosen: Tensor, balance: float) -> Tensor:
    """Weights (B, H, W) of the chosen, labelled pixels, balanced between classes.

    The weights of a class in an image sum to its number of pixels to the power ``1 - balance``.
    """
    flat = labels.masked_fill(~chosen, 0).flatten(1)
    counts = labels.new_zeros((len(labels), int(flat.max()) + 1), dtype=torch.float64)
    counts.scatter_add_(1, flat, chosen.double().flatten(1))
    weights = counts.gather(1, flat).clamp_(min=1).pow_(-balance)
    return (chosen.flatten(1) * weights).view(labels.shape)


def _draw(weights: Tensor, labelled: Tensor, count: int) -> Tensor:
    """Draw points (B, count, 2) in pixels by weights (B, H, W) float64, which may be all zero."""
    for fallback in (labelled.double(), torch.ones_like(weights)):
        empty = weights.sum(dim=(1, 2), keepdim=True) == 0
        weights = torch.where(empty, fallback, weights)
    batch, height, width = weights.shape
    total = weights.flatten(1).cumsum(1)
    end = total[:, -1:]
    drawn = torch.rand((batch, count), dtype=torch.float64, device=weights.device) * end
    drawn = torch.minimum(drawn, torch.nextafter(end, torch.zeros_like(end)))
    pixels = torch.searchsorted(total, drawn, right=True)  # the first above: its weight is not 0
    corner = torch.stack([pixels // width, pixels % width], dim=-1)
    place = torch.rand(corner.shape, dtype=torch.float64, device=weights.device)
    place = place * (1 - 2 * _MARGIN) + _MARGIN
    return ((corner + place) / place.new_tensor([height, width])).float()
