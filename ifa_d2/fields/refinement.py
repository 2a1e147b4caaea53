"""Labels of a fine grid at about the cost of a coarse one.

A coarse grid is decoded whole; then the grid is doubled, level by level, and a sample is decoded
only where the samples around it disagree or are unsure. In the spirit of PointRend's subdivision
(Kirillov et al. 2020, Sec. 3.1), but every label that is decoded is the field's own.

Shape legend: H x W the fine grid, h x w a coarser one, P samples decoded, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import BoundAlignment, GridAxis, GridQuery, GridSubset
from .decision import best_classes, label_dtype

Place = tuple[slice, slice]

_SURE = float("inf")
# Coarse samples beyond a block on which its answers depend: one for the first doubling, and less
# than one more for all others.
_HALO = 2


@dataclass(frozen=True)
class Refinement:
    """Rule for which samples of a fine grid are decoded.

    A sample's support is the margin (of the best logit over the second) interpolated from the four
    coarse samples around it, those of another label than the nearest one's counting against it.

    Attributes:
        threshold: samples of less support than this are decoded. 0 decodes where the label is more
            likely to change than not; infinity decodes everywhere, and is exact.
        budget: at each level at most this share of its samples is decoded, the least sure first
            (of each block, where output or features are so large that they are refined block by
            block); with the threshold at infinity, exactly this share. None is no limit.
        levels: how often the grid is doubled, 1 to 12; the first is 2**levels times coarser a side.

    Raises:
        ValueError: a value out of range.
    """

    threshold: float = 0.25
    budget: float | None = None
    levels: int = 2

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ValueError(f"threshold must not be negative, got {self.threshold}")
        if self.budget is not None and not 0 < self.budget <= 1:
            raise ValueError(f"budget must be in (0, 1], got {self.budget}")
        if not 1 <= self.levels <= 12:
            raise ValueError(f"levels must be 1 to 12, got {self.levels}")


@torch.no_grad()
def refined_labels(
    bound: BoundAlignment,
    query: GridQuery,
    refinement: Refinement,
    *,
    max_bytes: int = 96 << 20,
    max_samples: int = 1 << 22,
    max_side: int = 1 << 14,
) -> tuple[Tensor, float]:
    """Compute labels of a grid, most of them taken over from coarser grids.

    Args:
        bound: the function to evaluate, of the levels of one picture.
        query: the fine grid.
        refinement: where to evaluate it.
        max_bytes: that the cells of a block may take after the first layer. The grid is refined
            block by block.
        max_samples: of a block.
        max_side: samples along a side of a block, of which position terms are held.

    Returns:
        (H, W) labels of the smallest integer type, and the share of the fine grid's size that was
        decoded at all levels.

    Raises:
        ValueError: logits that are not finite.
    """
    out, asked = None, 0
    for place, around in _blocks(
        bound, query, 2**refinement.levels, max_bytes, max_samples, max_side
    ):
        labels, count = _refine(bound, query[around], refinement)
        asked += count
        if out is None:
            out = labels.new_empty(query.size)
        out[place] = labels[
            tuple(
                slice(inner.start - outer.start, inner.stop - outer.start)
                for inner, outer in zip(place, around, strict=True)
            )
        ]
    assert out is not None
    return out, asked / out.numel()


def _blocks(
    bound: BoundAlignment,
    query: GridQuery,
    factor: int,
    max_bytes: int,
    max_samples: int,
    max_side: int,
) -> Iterator[tuple[Place, Place]]:
    """Yield blocks of a grid, and the blocks with the samples that they depend on.

    A block's projected features, its samples and its position terms may be held.
    """
    coarse = [-(-side // factor) for side in query.size]
    longest = max(1, max_side // factor)
    width = min(coarse[1], longest)
    row_bytes = bound.count_bytes(query) * width / (coarse[0] * coarse[1])
    height = min(
        coarse[0],
        longest,
        max(1, int(max_bytes / row_bytes)),
        max(1, max_samples // (width * factor**2)),
    )
    for rows in _runs(query.size[0], height, factor):
        for cols in _runs(query.size[1], width, factor):
            yield (rows[0], cols[0]), (rows[1], cols[1])


def _runs(length: int, step: int, factor: int) -> Iterator[tuple[slice, slice]]:
    """Yield runs of ``step`` coarse samples, without and with halo, in fine samples."""
    for begin in range(0, -(-length // factor), step):
        end = begin + step
        above, below = max(0, begin - _HALO), end + _HALO
        yield (
            slice(begin * factor, min(end * factor, length)),
            slice(above * factor, min(below * factor, length)),
        )


def _refine(bound: BoundAlignment, query: GridQuery, refinement: Refinement) -> tuple[Tensor, int]:
    """Compute labels of a block, and count the samples that were decoded."""
    factor = 2**refinement.levels
    cover = GridQuery(*(_rounded_up(axis, factor) for axis in (query.rows, query.cols)))
    bound = bound.covering(cover)
    grid = GridQuery(_coarser(query.rows, factor), _coarser(query.cols, factor))
    labels, margins = _labels_and_margins(bound(grid)[0])
    asked = labels.numel()
    while factor > 1:
        factor //= 2
        grid = GridQuery(_coarser(query.rows, factor), _coarser(query.cols, factor))
        height, width = grid.size
        support = _support(labels, margins)[:height, :width]
        labels = _double(labels)[:height, :width].contiguous()
        index = _choose(support, refinement)
        logits = bound(GridSubset(grid, index))[0]  # (K, P)
        rows, cols = index.unbind(1)
        answer, margin = _labels_and_margins(logits)
        labels[rows, cols] = answer
        if factor > 1:
            margins = _double(margins)[:height, :width].contiguous()
            margins[rows, cols] = margin
        asked += len(index)
    return labels, asked


def _coarser(axis: GridAxis, factor: int) -> GridAxis:
    """Place samples at the middles of runs of ``factor`` samples, as wide as these.

    The last may lie beyond the end.
    """
    size = -(-len(axis) // factor)
    # In halves of a step, as the middle of an even run lies between two samples.
    start = 2 * axis.start + (factor - 1) * axis.step
    width = axis.step / axis.denominator if axis.footprint is None else axis.footprint
    return GridAxis(start, 2 * factor * axis.step, size, 2 * axis.denominator, width)


def _rounded_up(axis: GridAxis, factor: int) -> GridAxis:
    """The samples, and as many beyond them as their coarser ones stand for."""
    return replace(axis, size=-(-len(axis) // factor) * factor)


def _labels_and_margins(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Find the best class of logits (K, *S), and its margin; logits are overwritten."""
    small = label_dtype(len(logits))
    best, labels = best_classes(logits)
    if len(logits) == 1:
        return labels.to(small), torch.full_like(best, _SURE)
    others = logits.scatter_(0, labels[None], -_SURE)
    return labels.to(small), best - others.amax(dim=0)


def _double(values: Tensor) -> Tensor:
    """(h, w) to (2h, 2w), each value four times."""
    return values.repeat_interleave(2, 0).repeat_interleave(2, 1)


def _support(labels: Tensor, margins: Tensor) -> Tensor:
    """Compute the support of the parent's label at each sample of the doubled grid.

    The margins of the four coarse samples around it, interpolated bilinearly; those of another
    label count against the parent's.
    """
    h, w = labels.shape
    label = _pad(labels.float())
    margin = _pad(margins.float())
    out = margins.new_zeros((2 * h, 2 * w), dtype=torch.float32)
    for dy in (-1, 1):
        for dx in (-1, 1):
            part = out[(dy + 1) // 2 :: 2, (dx + 1) // 2 :: 2]  # children at one corner
            for y, x, weight in ((0, 0, 9), (dy, 0, 3), (0, dx, 3), (dy, dx, 1)):
                place = (slice(1 + y, 1 + y + h), slice(1 + x, 1 + x + w))
                sign = (label[place] == labels).float().mul_(2).sub_(1)
                part.addcmul_(sign, margin[place], value=weight / 16)
    return out


def _pad(values: Tensor) -> Tensor:
    return F.pad(values[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]


def _choose(support: Tensor, refinement: Refinement) -> Tensor:
    """(P, 2) rows and columns of the samples to ask."""
    flat = support.flatten()
    chosen = (flat < refinement.threshold).nonzero().flatten()
    if refinement.budget is not None:
        count = round(refinement.budget * flat.numel())
        if len(chosen) > count:
            least = flat[chosen].topk(count, largest=False).indices
            chosen = chosen[least].sort().values
    return torch.stack([chosen // support.shape[1], chosen % support.shape[1]], dim=1)
