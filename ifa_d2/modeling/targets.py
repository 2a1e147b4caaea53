"""Training targets: queries of an iteration, and their labels.

Coordinates are (y, x) in [0, 1] of the padded input.

Shape legend: B batch, K classes, H x W the padded input's size, h x w the finest feature's, P
points.
"""

import dataclasses
from abc import ABC, abstractmethod
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

# A jittered grid lies at such parts of the finest feature's cells.
_PARTS = 1 << 20


@dataclass(frozen=True)
class LabelledPoints:
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
    ) -> "LabelledPoints":
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

    def select(self, index: Tensor) -> "LabelledPoints":
        """Select points of each image by index (B, N); none of them counts as uniform."""
        points = self.coordinates.gather(1, index[..., None].expand(-1, -1, 2))
        return LabelledPoints(points, self.labels.gather(1, index), 0, self.footprints)

    @property
    def query(self) -> PointQuery:
        """The points, each as wide as a pixel of its annotation."""
        return PointQuery(self.coordinates, self.footprints)


@dataclass(frozen=True)
class Sample:
    """Query of an iteration, and its labels.

    Attributes:
        query: B images, any size S.
        labels: (B, *S); or (B, H, W), that the answer of a grid is upsampled to.
    """

    query: GridQuery | PointQuery
    labels: Tensor

    @property
    def upsampled(self) -> bool:
        """Whether the answer is upsampled to the labels."""
        return self.labels.shape[1:] != self.query.size


class Targets(ABC):
    """Choice of where a field is evaluated in an iteration of training."""

    takes_points = False  # whether labelled points may stand for dense labels
    sampler: PointSampler | None = None  # draws points from dense labels

    @abstractmethod
    def __call__(
        self,
        size: Sequence[int],
        targets: Tensor | LabelledPoints,
        *,
        decode: Callable[[PointQuery], Tensor],
        ignore_value: int,
    ) -> Sample:
        """Choose the sample of one iteration.

        Args:
            size: (h, w).
            targets: dense labels (B, H, W), or labelled points where :attr:`takes_points`.
            decode: gives logits (B, K, P) at points, to see how sure they are.
            ignore_value: label of pixels that do not count.

        Raises:
            ValueError: targets of the other kind.
        """


class GridTargets(Targets):
    """Logits on the finest feature's grid, upsampled to the labels (the paper's)."""

    def __call__(self, size: Sequence[int], targets: Tensor | LabelledPoints, **_: Any) -> Sample:
        return Sample(GridQuery.regular(*size), _dense(self, targets))


class JitteredGridTargets(Targets):
    """The paper's grid moved by a random part of its spacing, and the labels at those places.

    The field learns every offset, not just the few of one grid.

    Args:
        spacings: in cells of the finest feature, each in (0, 1]; each iteration draws one. A grid
            of smaller spacing covers a smaller window of the image, at a random place, with as many
            queries.

    Raises:
        ValueError: no spacing, or one out of its range.
    """

    def __init__(self, spacings: Sequence[float] = (1.0,)) -> None:
        self.spacings = tuple(spacings)
        if not self.spacings or not all(0 < s <= 1 for s in self.spacings):
            raise ValueError(f"spacings must be one or more in (0, 1], got {self.spacings}")

    def __call__(self, size: Sequence[int], targets: Tensor | LabelledPoints, **_: Any) -> Sample:
        labels = _dense(self, targets)
        drawn = int(torch.randint(len(self.spacings), ())) if len(self.spacings) > 1 else 0
        query = jittered_grid(size, self.spacings[drawn])
        return Sample(query, grid_labels(labels, query))


class PointTargets(Targets):
    """Points at continuous coordinates.

    Args:
        sampler: draws points from dense labels, where none come with the data as those of
            ``SemSegMapper`` do for a ``FieldSegmentor``; None needs those.
    """

    takes_points = True

    def __init__(self, sampler: PointSampler | None = None) -> None:
        self.sampler = sampler

    def __call__(
        self,
        size: Sequence[int],
        targets: Tensor | LabelledPoints,
        **_: Any,
    ) -> Sample:
        points = _drawn(self.sampler, targets)
        return Sample(points.query, points.labels)


class UncertainPointTargets(Targets):
    """Some uniform points, and of others those whose class is least certain.

    As PointRend chooses them (Kirillov et al. 2020, Sec. 3.1).

    Args:
        sampler: draws uniform points from dense labels, and ``num_points`` are kept; points that
            come with the data are candidates instead, and None needs those.
        importance_ratio: share of the points kept that are not uniform.
        oversample_ratio: candidates for each of these.

    Raises:
        ValueError: an argument out of its range, or a sampler that is not uniform.
    """

    takes_points = True

    def __init__(
        self,
        sampler: PointSampler | None = None,
        *,
        importance_ratio: float = 0.75,
        oversample_ratio: float = 3.0,
    ) -> None:
        if not 0 <= importance_ratio < 1:
            raise ValueError(f"importance_ratio must be in [0, 1), got {importance_ratio}")
        if oversample_ratio < 1:
            raise ValueError(f"oversample_ratio must be at least 1, got {oversample_ratio}")
        if sampler is not None and sampler.sampling != "uniform":
            raise ValueError(
                "the sampling of the sampler must be 'uniform', as candidates are, got "
                f"{sampler.sampling!r}"
            )
        self.sampler = sampler
        self.importance_ratio = importance_ratio
        self.oversample_ratio = oversample_ratio

    def __call__(
        self,
        size: Sequence[int],
        targets: Tensor | LabelledPoints,
        *,
        decode: Callable[[PointQuery], Tensor],
        ignore_value: int,
    ) -> Sample:
        ratio, oversample = self.importance_ratio, self.oversample_ratio
        sampler = self.sampler
        if sampler is None or isinstance(targets, LabelledPoints):
            points = _drawn(None, targets)
            count = max(2, int(points.labels.shape[1] / (oversample + 1 - ratio)))
            uniform = min(max(1, count - round(ratio * count)), points.num_uniform)
        else:
            count = sampler.num_points
            uniform = max(1, count - round(ratio * count))
            number = uniform + round(oversample * count)
            sampler = dataclasses.replace(sampler, num_points=number)
            points = _drawn(sampler, targets)
        rest = torch.arange(uniform, points.labels.shape[1], device=points.labels.device)
        candidates = points.select(rest.expand(len(points.labels), -1))
        scores = uncertainty(decode(candidates.query))
        scores = scores.masked_fill(candidates.labels == ignore_value, -torch.inf)
        number = min(count - uniform, scores.shape[1])
        chosen = candidates.select(scores.topk(number, dim=1, sorted=False).indices)
        coordinates = torch.cat([points.coordinates[:, :uniform], chosen.coordinates], dim=1)
        labels = torch.cat([points.labels[:, :uniform], chosen.labels], dim=1)
        return Sample(PointQuery(coordinates, points.footprints), labels)


def _dense(owner: Targets, targets: Tensor | LabelledPoints) -> Tensor:
    """Dense labels, or a ValueError where there are points."""
    if isinstance(targets, LabelledPoints):
        raise ValueError(f"targets must be dense labels for {type(owner).__name__}, got points")
    return targets


def _drawn(sampler: PointSampler | None, targets: Tensor | LabelledPoints) -> LabelledPoints:
    """Points of the data, or points that a sampler draws from dense labels."""
    if isinstance(targets, LabelledPoints):
        return targets
    if sampler is None:
        raise ValueError(
            "targets must be points that come with the data, as sampler is None, got dense labels: "
            "set dataloader.train.mapper.num_points with a FieldSegmentor, or give a sampler"
        )
    return draw_points(sampler, targets)


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


def draw_points(sampler: PointSampler, labels: Tensor) -> LabelledPoints:
    """Draw points of dense labels (B, H, W), with the labels of their pixels."""
    points = sampler(labels)
    pixel = 1 / points.new_tensor(labels.shape[1:])
    footprints = pixel.expand(len(labels), -1)
    return LabelledPoints(points, labels_at(labels, points), sampler.num_uniform, footprints)


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
