"""Which cells of a level answer a query, and how their values are looked up.

Shape legend: B batch, C channels, h x w cells of a level, P points, Q queries of all images, T taps
an axis, S any shape of queries.
"""

import torch
from torch import Tensor

from .levels import Level, PointwiseLevel
from .lookup import Lookup, sum_lookups
from .queries import Taps, send


def restrict(level: Level, cells: Tensor, dim: int) -> tuple[Level, Tensor]:
    """The part of a level that cells (T, n) of one axis touch, and the cells counted in it."""
    low, high = int(cells.min()), int(cells.max())
    if high - low < cells.numel():
        if (low, high) == (0, level.shape[dim] - 1):
            return level, cells
        return level.narrow(dim, low, high - low + 1), cells - low
    chosen = level.index_select(dim, send(cells.flatten(), level.device))
    return chosen, torch.arange(cells.numel()).view(cells.shape)


def bounding_box(level: Level, ty: Taps, tx: Taps) -> tuple[Level, Taps, Taps]:
    """The part of a level that holds all cells of some taps, and the taps counted in it."""
    limits = [limit for taps in (ty, tx) for limit in taps.cells.aminmax()]
    top, bottom, left, right = torch.stack(limits).tolist()  # together: a device is waited for
    level = level.narrow(2, top, bottom - top + 1).narrow(3, left, right - left + 1)
    return level, ty.counted_from(top), tx.counted_from(left)


def sample_level(level: Level, ty: Taps, tx: Taps) -> Tensor:
    """A level at points: (B, C, 1, P)."""
    lookup_index, weights = _cells_and_weights(level, ty, tx)
    batch, points = len(level), lookup_index.shape[0] // len(level)
    if isinstance(level, Tensor):
        rows = sum_lookups([Lookup(_rows(level), lookup_index, weights)])
    else:  # the function comes before the sum
        rows = _take_cells(level, lookup_index.flatten()).unflatten(0, lookup_index.shape)
        rows = rows[:, 0] if weights is None else (rows * weights[..., None]).sum(1)
    return rows.view(batch, 1, points, -1).permute(0, 3, 1, 2)


def _take_cells(level: Level, index: Tensor) -> Tensor:
    """The values (N, C) of cells (N,), counted over images, rows and columns."""
    source = level.source if isinstance(level, PointwiseLevel) else level
    h, w = source.shape[2:]
    image, cell = index // (h * w), index % (h * w)
    rows = source[image, :, cell // w, cell % w]
    if isinstance(level, PointwiseLevel):
        rows = level.function(rows.t()[None, :, None]).permute(0, 2, 3, 1).flatten(0, 2)
    return rows


def cell_lookup(level: Tensor, ty: Taps, tx: Taps) -> Lookup:
    """The lookup of pairs of taps that broadcast to (T, 1 or B, *S) in a level (B, C, h, w)."""
    return Lookup(_rows(level), *_cells_and_weights(level, ty, tx))


def axis_lookups(
    axes: tuple[Tensor, Tensor], index: Tensor, batch: int, like: Tensor
) -> list[Lookup]:
    """Lookups of row and column vectors (n, D) at samples (P, 2), the same of all images.

    They get the type and device of another lookup's table.
    """
    index = index.to(like.device).repeat(batch, 1)
    return [
        Lookup(axis.to(like.dtype), index[:, i : i + 1].contiguous()) for i, axis in enumerate(axes)
    ]


def _cells_and_weights(level: Level, ty: Taps, tx: Taps) -> tuple[Tensor, Tensor | None]:
    """(Q, T * T) cells of a level counted over images, rows and columns, and their weights.

    The taps of each axis are moved to the level's device before they are paired: they are few.
    """
    batch, _, h, w = level.shape
    cell_y, cell_x = (send(taps.cells, level.device) for taps in (ty, tx))
    index = (cell_y[:, None] * w + cell_x[None]).flatten(0, 1)
    shift = torch.arange(batch, device=level.device) * (h * w)
    index = index + shift.view(-1, *[1] * (index.dim() - 2))  # (T * T, B, *S)
    weights = None
    if ty.weights is not None and tx.weights is not None:
        weights = joint_weights(*(send(t.weights, level.device) for t in (ty, tx)))
        weights = weights.to(level.dtype).expand(index.shape)
        weights = weights.flatten(1).t().contiguous()
    return index.flatten(1).t().contiguous(), weights


def joint_weights(y: Tensor, x: Tensor) -> Tensor:
    """(T * T, *S) weights of pairs of taps, in row-major order, of those of each axis (T, *S)."""
    return (y[:, None] * x[None]).flatten(0, 1)


def _rows(level: Tensor) -> Tensor:
    """(B, C, h, w) to (B * h * w, C), a view where channels are last in memory."""
    return level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])
