"""Training targets: queries of an iteration, and their labels.

Coordinates are (y, x) in [0, 1] of the padded input.

Shape legend: B batch, K classes, H x W the padded input's size, h x w the finest feature's, P
points.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.points import PointSampler, labels_at
from ..layers import GridAxis, GridQuery, PointQuery
from ..layers.queries import send

POINT_TARGETS = ("points", "uncertain_points")
GRID_TARGETS = ("grid", "jittered_grid")
TARGETS = (*GRID_TARGETS, *POINT_TARGETS)
# A jittered grid lies at such parts of the finest feature's cells.
_PARTS = 1 << 20


@dataclass(frozen=True)
class PointTargets:
    """Labelled points of a batch.

    Attributes:
        coordinates: (B, P, 2) floating point.
        labels: (B, P) int64.
        num_uniform: that many of each image, the first ones, are uniform over its labelled pixels.
        footprints: (B, 2) sizes (y, x) of a pixel of each image's annotation, as shares of the
            padded input's sides; None for points without a size.
    """

    coordinates: Tensor
    labels: Tensor
    num_uniform: int
    footprints: Tensor | None = None

    @classmethod
    def from_batch(
        cls,
        batched_inputs: Sequence[Mapping[str, Any]],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: Sequence[int],
        device: torch.device,
    ) -> "PointTargets":
        """Collect the points of a batch, in coordinates of the padded images.

        Args:
            batched_inputs: with ``sem_seg_points`` (P, 2), ``sem_seg_point_labels`` (P,) and, if
                not all of them are uniform, ``sem_seg_num_uniform_points``; and with
                ``sem_seg_point_footprint`` (2,), without which it is a pixel of the image.
            image_sizes: (height, width) of each image in the padded batch.
            padded_size: (H, W).
            device: where to.

        Raises:
            ValueError: images without points, or with different numbers of them.
        """
        shapes = [
            tuple(one["sem_seg_points"].shape) if "sem_seg_points" in one else None
            for one in batched_inputs
        ]
        if None in shapes or len(set(shapes)) != 1:
            raise ValueError(f"sem_seg_points must be as many of each image, got shapes {shapes}")
        points = torch.stack([one["sem_seg_points"] for one in batched_inputs]).to(device)
        share = points.new_tensor(image_sizes) / points.new_tensor(padded_size)
        labels = torch.stack([one["sem_seg_point_labels"] for one in batched_inputs])
        num_points = points.shape[1]
        num_uniform = min(
            one.get("sem_seg_num_uniform_points", num_points) for one in batched_inputs
        )
        pixel = 1 / points.new_tensor(image_sizes)
        footprints = torch.stack(
            [
                one["sem_seg_point_footprint"].to(device) if "sem_seg_point_footprint" in one else p
                for one, p in zip(batched_inputs, pixel, strict=True)
            ]
        )
        return cls(points * share[:, None], labels.to(device), num_uniform, footprints * share)

    def select(self, index: Tensor) -> "PointTargets":
        """Select points of each image by index (B, N); none of them counts as uniform."""
        points = self.coordinates.gather(1, index[..., None].expand(-1, -1, 2))
        return PointTargets(points, self.labels.gather(1, index), 0, self.footprints)

    @property
    def query(self) -> PointQuery:
        """The points, each as wide as a pixel of its annotation."""
        return PointQuery(self.coordinates, self.footprints)


@dataclass(frozen=True)
class Sample:
    """Query of an iteration, and its labels.

    Attributes:
        query: B images, any size S.
        labels: (B, *S), or (B, H, W) that the answer of a grid is upsampled to.
    """

    query: GridQuery | PointQuery
    labels: Tensor


class TargetSampler:
    """Chooses where a field is asked in an iteration.

    Args:
        targets: see ``IFASemSegHead``.
        spacings: of "jittered_grid", in cells of the finest feature; each iteration draws one. A
            grid of smaller spacing covers a smaller window of the image, at a random place, with
            as many queries.
        points: draws the points of the point targets that come with dense labels, and says how
            many of "uncertain_points" are uniform.
        oversample_ratio: candidates of "uncertain_points" for each point that is kept.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        targets: str,
        spacings: Sequence[float] = (1.0,),
        points: PointSampler,
        oversample_ratio: float = 3.0,
    ) -> None:
        if targets not in TARGETS:
            raise ValueError(f"targets must be one of {TARGETS}, got {targets!r}")
        self.spacings = tuple(spacings)
        if not self.spacings or not all(0 < s <= 1 for s in self.spacings):
            raise ValueError(f"target_spacings must be one or more in (0, 1], got {self.spacings}")
        if oversample_ratio < 1:
            raise ValueError(f"oversample_ratio must be at least 1, got {oversample_ratio}")
        if targets == "uncertain_points" and points.sampling != "uniform":
            raise ValueError(
                "point_sampling must be 'uniform' with targets 'uncertain_points', whose "
                f"candidates are uniform, got {points.sampling!r}"
            )
        self.targets = targets
        self.points = points
        self.oversample_ratio = oversample_ratio

    def __call__(
        self,
        size: Sequence[int],
        targets: Tensor | PointTargets,
        decode: Callable[[PointQuery], Tensor],
    ) -> Sample:
        """The sample of one iteration.

        Args:
            size: (h, w).
            targets: dense labels (B, H, W), or for the point targets labelled points.
            decode: gives logits (B, K, P) at points, to see how sure they are.

        Raises:
            ValueError: points for a grid.
        """
        if self.targets in POINT_TARGETS:
            points = self._uncertain if self.targets == "uncertain_points" else self._drawn
            chosen = points(targets, decode)
            return Sample(chosen.query, chosen.labels)
        if isinstance(targets, PointTargets):
            raise ValueError(f"targets must be dense labels for a {self.targets!r}, got points")
        if self.targets == "grid":
            return Sample(GridQuery.regular(*size), targets)
        drawn = int(torch.randint(len(self.spacings), ())) if len(self.spacings) > 1 else 0
        query = jittered_grid(size, self.spacings[drawn])
        return Sample(query, grid_labels(targets, query))

    def _drawn(
        self, targets: Tensor | PointTargets, decode: Callable[[PointQuery], Tensor]
    ) -> PointTargets:
        return targets if isinstance(targets, PointTargets) else draw_points(self.points, targets)

    def _uncertain(
        self, targets: Tensor | PointTargets, decode: Callable[[PointQuery], Tensor]
    ) -> PointTargets:
        """Some uniform points, and of others those whose class is least certain."""
        ratio, oversample = self.points.importance_ratio, self.oversample_ratio
        if isinstance(targets, PointTargets):
            count = max(2, int(targets.labels.shape[1] / (oversample + 1 - ratio)))
            uniform = min(max(1, count - round(ratio * count)), targets.num_uniform)
        else:
            count = self.points.num_points
            uniform = max(1, count - round(ratio * count))
            number = uniform + round(oversample * count)
            targets = draw_points(dataclasses.replace(self.points, num_points=number), targets)
        rest = torch.arange(uniform, targets.labels.shape[1], device=targets.labels.device)
        candidates = targets.select(rest.expand(len(targets.labels), -1))
        scores = uncertainty(decode(candidates.query))
        scores = scores.masked_fill(candidates.labels == self.points.ignore_value, -torch.inf)
        number = min(count - uniform, scores.shape[1])
        chosen = candidates.select(scores.topk(number, dim=1, sorted=False).indices)
        return PointTargets(
            torch.cat([targets.coordinates[:, :uniform], chosen.coordinates], dim=1),
            torch.cat([targets.labels[:, :uniform], chosen.labels], dim=1),
            uniform,
            targets.footprints,
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in eval mode and without gradients."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


def draw_points(sampler: PointSampler, labels: Tensor) -> PointTargets:
    """Draw points of dense labels (B, H, W), with the labels of their pixels."""
    points = sampler(labels)
    pixel = 1 / points.new_tensor(labels.shape[1:])
    footprints = pixel.expand(len(labels), -1)
    return PointTargets(points, labels_at(labels, points), sampler.num_uniform, footprints)


def uncertainty(logits: Tensor) -> Tensor:
    """Compute the negative margin of the best class, (B, P) (PointRend, Sec. 4.3)."""
    if logits.shape[1] == 1:
        return torch.zeros_like(logits[:, 0])
    best, second = logits.float().topk(2, dim=1).values.unbind(1)
    return second - best


def jittered_grid(size: Sequence[int], spacing: float = 1.0) -> GridQuery:
    """A grid moved by up to half its spacing along each axis, kept inside the image.

    Args:
        size: (h, w) of the grid.
        spacing: 1 covers the image; less covers that share of each axis, at a random place.
    """
    axes = []
    for n in size:
        begin = (1 - spacing) * float(torch.rand(())) if spacing < 1 else 0.0
        shift = float(torch.rand((), dtype=torch.float64))  # of a sample in its cell, 0 to 1
        # In whole numbers of a cell's and of an axis' parts.
        step = round(spacing * _PARTS)
        start = round(begin * n * _PARTS) + round(shift * step)
        axes.append(GridAxis(start, step, n, n * _PARTS))
    return GridQuery(*axes)


def grid_labels(labels: Tensor, query: GridQuery) -> Tensor:
    """The labels (B, h, w) of the pixels of (B, H, W) that a grid's samples lie in."""
    for dim, axis in ((1, query.rows), (2, query.cols)):
        pixels = axis.taps(labels.shape[dim], ensemble=False).cells[0]
        labels = labels.index_select(dim, send(pixels, labels.device))
    return labels


def interpolate(maps: Tensor, query: GridQuery | PointQuery) -> Tensor:
    """Maps (B, K, h, w) interpolated bilinearly at a query: (B, K, *query)."""
    if isinstance(query, GridQuery):
        axes = [send(axis.coordinates, maps.device) for axis in (query.rows, query.cols)]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        places = places.expand(len(maps), -1, -1, -1)  # (B, rows, columns, 2)
    else:
        places = query.coordinates[:, None]  # (B, 1, P, 2)
    places = (2 * places - 1).flip(-1).to(maps.device, torch.promote_types(maps.dtype, torch.float))
    out = F.grid_sample(
        maps.to(places.dtype), places, mode="bilinear", padding_mode="border", align_corners=False
    )
    return out if isinstance(query, GridQuery) else out[:, :, 0]
