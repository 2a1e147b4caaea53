"""Class scores of parts of a picture, summed at the samples of the answer.

Shape legend: K classes, h x w pixels of a part, H x W samples of the answer.
"""

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor

from ..fields import SegmentationField, best_classes, class_probabilities, label_dtype
from ..layers import GridAxis, GridQuery
from ..layers.queries import send
from .views import Size, Span

# What one piece of scores may take.
_PIECE_BYTES = 16 << 20


class Raster:
    """Logits on a window's pixels, interpolated where they are asked.

    Args:
        logits: (K, h, w).
    """

    picture_share = (Fraction(1), Fraction(1))
    temperature = 1.0  # a model's logits are divided already

    def __init__(self, logits: Tensor) -> None:
        self.values = logits

    def iter_logits(self, query: GridQuery) -> Iterator[tuple[int, int, Tensor]]:
        """See :func:`iter_logits`."""
        classes, _, width = self.values.shape
        num_rows, num_cols = query.size
        widest = classes * max(width, num_cols) * self.values.element_size()
        step = max(1, _PIECE_BYTES // widest)
        for top in range(0, num_rows, step):
            rows = query.rows[top : top + step]
            piece = _interpolate(self.values, rows, 1)
            piece = _interpolate(piece, query.cols, 2)
            yield top, 0, piece


def _interpolate(values: Tensor, axis: GridAxis, dim: int) -> Tensor:
    """Interpolate linearly along one axis, constant beyond the last cells."""
    if axis.on_cells(values.shape[dim]):
        return values.narrow(dim, axis.span(values.shape[dim], ensemble=False)[0], len(axis))
    taps = axis.taps(values.shape[dim], ensemble=True)
    lower, upper = (values.index_select(dim, cells) for cells in send(taps.cells, values.device))
    weight = send(taps.weights[1], values.device, values.dtype)
    return lower.lerp_(upper, weight.view(-1, *[1] * (values.dim() - 1 - dim)))


def iter_logits(
    source: SegmentationField | Raster, query: GridQuery
) -> Iterator[tuple[int, int, Tensor]]:
    """The first row and column of a piece, and its (K, rows, columns) logits, undivided.

    They are to be divided by the source's ``temperature`` where probabilities are made of them. The
    pieces cover the query once and are small, unless a field's norms need all samples at once.
    """
    if isinstance(source, Raster):
        yield from source.iter_logits(query)
    else:
        for (rows, cols), logits in source.bound.iter_tiles(query):
            yield rows.start, cols.start, logits[0]


def iter_shares(
    source: SegmentationField | Raster, query: GridQuery, rows: Span, cols: Span
) -> Iterator[tuple[int, int, Tensor]]:
    """The first row and column of a piece of a window, and its (K, rows, columns) share.

    That is what :class:`RunningScores` are sums of: class probabilities, weighted as the window is.

    Args:
        source: of the window.
        query: the samples of ``rows`` and ``cols``.
        rows, cols: of the window.
    """
    for top, left, logits in iter_logits(source, query):
        shares = class_probabilities(logits, source.temperature)
        row_weights = rows.weights[top : top + shares.shape[1], None]
        col_weights = cols.weights[left : left + shares.shape[2]]
        shares *= (row_weights * col_weights).to(shares.device)
        yield top, left, shares


class RunningScores:
    """Sums of class scores over a band of rows that moves down an answer.

    Args:
        size: (H, W) of the answer.
        height: rows of the band; None is all.
    """

    def __init__(self, size: Size, height: int | None = None) -> None:
        self.size = size
        self.height = height or size[0]
        self.top = 0
        self._sums: Tensor | None = None  # (K, height, W)
        self._labels: Tensor | None = None  # (H, W)

    def make_room(self, rows: slice) -> None:
        """Move the band down to ``rows.stop``; rows above ``rows.start`` are final."""
        if rows.stop > self.top + self.height:
            self._finish(rows.start)

    def add_(self, top: int, left: int, scores: Tensor) -> None:
        """Add (K, h, w) scores at rows from ``top`` and columns from ``left``."""
        classes, height, width = scores.shape
        if self._sums is None:
            self._sums = scores.new_zeros((classes, self.height, self.size[1]))
            self._labels = torch.empty(self.size, dtype=label_dtype(classes))
        top -= self.top
        self._sums[:, top : top + height, left : left + width] += scores

    def _finish(self, row: int) -> None:
        """Write the labels of the rows above ``row``, and let the band begin there."""
        done = row - self.top
        step = max(1, _PIECE_BYTES // (8 * self.size[1]))  # of the classes, which are int64
        for i in range(0, done, step):
            _, part = best_classes(self._sums[:, i : min(i + step, done)])
            part = part.to(self._labels.dtype)  # where it is: an eighth of the bytes move
            self._labels[self.top + i : self.top + i + len(part)] = part
        self.top = row
        kept = self.height - done
        for i in range(0, kept, done):  # in runs that do not overlap where they go to
            n = min(done, kept - i)
            self._sums[:, i : i + n] = self._sums[:, i + done : i + done + n]
        self._sums[:, kept:] = 0

    def labels(self) -> Tensor:
        """Return classes of the largest sum (H, W), of the smallest integer type, on the CPU.

        Raises:
            ValueError: scores that are not finite, here or where the band moves.
        """
        if self.top < self.size[0]:
            self._finish(self.size[0])
        return self._labels

    def logits(self, count: int) -> Tensor:
        """Return logs of the sums over ``count``, (K, H, W); the sums are overwritten.

        The band must be the whole answer.
        """
        return self._sums.div_(count).clamp_(min=torch.finfo(torch.float32).tiny).log_()
