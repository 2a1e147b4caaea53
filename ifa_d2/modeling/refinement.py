"""Labels of a fine grid at about the cost of a coarse one: ask only where the answer can change.

A coarse grid is decoded whole; then the grid is doubled, level by level, and a sample is asked
only where the samples around it disagree or are unsure. In the spirit of PointRend's subdivision
(Kirillov et al. 2020, Sec. 3.1), but every answer that is given is the field's own.

Shape legend: H x W the fine grid, h x w a coarser one, P samples asked, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import GridAxis, GridQuery, GridSubset, ImplicitAlignment

_SURE = float("inf")


@dataclass(frozen=True)
class Refinement:
    """How much of a fine grid is asked.

    A sample's support is the margin (of the best logit over the second) interpolated from the four
    coarse samples around it, those of another label than the nearest one's counting against it.

    Attributes:
        threshold: samples of less support than this are asked. 0 asks where the label is more
            likely to change than not; infinity asks everywhere, and is exact.
        budget: at each level at most this share of its samples is asked, the least sure first;
            with the threshold at infinity, exactly this share. None is no limit.
        levels: how often the grid is doubled; the first is 2**levels times coarser a side.
    """

    threshold: float = 0.3
    budget: float | None = None
    levels: int = 2

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ValueError(f"threshold must not be negative, got {self.threshold}")
        if self.budget is not None and not 0 < self.budget <= 1:
            raise ValueError(f"budget must be in (0, 1], got {self.budget}")
        if self.levels < 1:
            raise ValueError(f"levels must be at least 1, got {self.levels}")


@torch.no_grad()
def refined_labels(
    alignment: ImplicitAlignment,
    levels: list[Tensor],
    query: GridQuery,
    refinement: Refinement,
) -> tuple[Tensor, float]:
    """Labels of a grid, most of them taken over from coarser grids.

    Args:
        alignment: in eval mode.
        levels: (1, C, h, w) each.
        query: the fine grid, of evenly spaced rows and columns.
        refinement: where to ask.

    Returns:
        (H, W) int64 labels, and the share of the fine grid's size that was asked at all levels.

    Raises:
        ValueError: a grid whose rows or columns are not evenly spaced.
    """
    if not isinstance(query.rows, GridAxis) or not isinstance(query.cols, GridAxis):
        raise ValueError("query must be an evenly spaced grid to be refined")
    factor = 2**refinement.levels
    grid = GridQuery(_coarser(query.rows, factor), _coarser(query.cols, factor))
    labels, margins = _labels_and_margins(alignment(levels, grid)[0])
    asked = labels.numel()
    while factor > 1:
        factor //= 2
        grid = GridQuery(_coarser(query.rows, factor), _coarser(query.cols, factor))
        height, width = grid.size
        support = _support(labels, margins)[:height, :width]
        labels = _double(labels)[:height, :width].contiguous()
        margins = _double(margins)[:height, :width].contiguous()
        index = _choose(support, refinement)
        logits = alignment(levels, GridSubset(grid, index))[0]  # (K, P)
        rows, cols = index.unbind(1)
        labels[rows, cols], margins[rows, cols] = _labels_and_margins(logits)
        asked += len(index)
    return labels, asked / (query.size[0] * query.size[1])


def _coarser(axis: GridAxis, factor: int) -> GridAxis:
    """Samples at the middles of runs of ``factor`` samples; the last may lie beyond the end."""
    size = -(-len(axis) // factor)
    # In halves of a step, as the middle of an even run lies between two samples.
    start = 2 * axis.start + (factor - 1) * axis.step
    return GridAxis(start, 2 * factor * axis.step, size, 2 * axis.denominator)


def _labels_and_margins(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Best class, and by how much its logit leads, of logits (K, *S)."""
    if logits.shape[0] == 1:
        return torch.zeros_like(logits[0], dtype=torch.int64), torch.full_like(logits[0], _SURE)
    best, labels = logits.max(dim=0)
    others = logits.scatter(0, labels[None], -_SURE)
    return labels, best - others.amax(dim=0)


def _double(values: Tensor) -> Tensor:
    """(h, w) to (2h, 2w), each value four times."""
    return values.repeat_interleave(2, 0).repeat_interleave(2, 1)


def _support(labels: Tensor, margins: Tensor) -> Tensor:
    """How far each sample of the doubled grid is from losing its parent's label, (2h, 2w).

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
