"""Levels of a field: feature maps, and their product with the first layer of the MLP.

Shape legend: B batch, C channels of a level, h x w its cells, D channels of the first layer, T taps
an axis, S shape of a query, M terms of a cell: its features, and with slopes also their products
with the offset along y and along x.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .queries import Place, Taps


@dataclass(frozen=True)
class PointwiseLevel:
    """Level that is a 1x1 convolution and ReLU of a map, computed where it is needed.

    Memory is then bounded by the cells of a block, not by the map.

    Attributes:
        source: (B, C', h, w).
        weight: (C, C', 1, 1).
        bias: (C,).
    """

    source: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape (B, C, h, w)."""
        batch, _, h, w = self.source.shape
        return torch.Size((batch, len(self.weight), h, w))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the source."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Device of the source."""
        return self.source.device

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, images: slice) -> "PointwiseLevel":
        return replace(self, source=self.source[images])

    def narrow(self, dim: int, start: int, length: int) -> "PointwiseLevel":
        """A run of rows (``dim`` 2) or columns (3)."""
        return replace(self, source=self.source.narrow(dim, start, length))

    def values(self) -> Tensor:
        """Compute the level, (B, C, h, w)."""
        source = self.source.contiguous(memory_format=torch.channels_last)
        return F.relu_(F.conv2d(source, self.weight, self.bias))

    def values_at(self, index: Tensor) -> Tensor:
        """Compute the level (..., C) at cells (...), counted over images, rows, columns."""
        h, w = self.source.shape[2:]
        image, cell = index // (h * w), index % (h * w)
        rows = self.source[image, :, cell // w, cell % w]
        return F.relu_(F.linear(rows, self.weight[:, :, 0, 0], self.bias))


Level = Tensor | PointwiseLevel
# Numbers (R, ...) of rows that are summed for each place, and weights that broadcast to these, or
# None for 1.
Lookup = tuple[Tensor, Tensor | None]
# Sums that a CPU makes at once.
_CHUNK_BYTES = 4 << 20


def materialize(level: Level) -> Tensor:
    """Return the feature map (B, C, h, w) of a level, channels last in memory."""
    if isinstance(level, PointwiseLevel):
        return level.values()
    return level.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class BoundLevel:
    """Level with its columns of the first layer.

    Their product with a cell does not depend on the query: a slope is looked up as it is, and
    weighted by the offset. It is computed once a cell and looked up, or once a sample, where there
    are fewer samples than cells.

    Attributes:
        source: (B, C, h', w'), a part of the level; not read once ``rows`` are there.
        weight: (D, M * C, k, k).
        bias: (D,), or None: the first level of an alignment carries it for all.
        shape: (h, w) of the whole level.
        terms: M.
        corner: the row and column of the whole level at which the part begins.
        rows: (B * h' * w', M * D), the product; None before :meth:`bind`.
    """

    source: Level
    weight: Tensor
    bias: Tensor | None
    shape: tuple[int, int]
    terms: int = 1
    corner: tuple[int, int] = (0, 0)
    rows: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (h', w') of the part."""
        return tuple(self.source.shape[2:])

    def without_slopes(self) -> "BoundLevel":
        """Return the level for samples at cells' centres, where slopes are multiplied by zero."""
        return replace(self, weight=self.weight[:, : self.source.shape[1]], terms=1)

    def product(self) -> Tensor:
        """Compute the product with every cell, (B, M * D, h', w')."""
        weight, bias, terms = self.weight, self.bias, self.terms
        if terms > 1:
            bias = None if bias is None else F.pad(bias, (0, (terms - 1) * len(bias)))
            weight = torch.cat(weight.chunk(terms, dim=1))
        return F.conv2d(materialize(self.source), weight, bias, padding=weight.shape[-1] // 2)

    def bind(self) -> "BoundLevel":
        """Return the level with the product with every cell."""
        if self.rows is not None:
            return self
        return replace(self, rows=self.product().permute(0, 2, 3, 1).flatten(0, 2))

    def narrow(self, rows: tuple[int, int], cols: tuple[int, int]) -> "BoundLevel":
        """Return the part from first to last row and column of the whole level."""
        source = self.source
        cells = None if self.rows is None else self.rows.unflatten(0, (-1, *self.size))
        for axis, (first, last) in enumerate((rows, cols)):
            start, length = first - self.corner[axis], last - first + 1
            if length == self.size[axis]:
                continue
            source = source.narrow(2 + axis, start, length)
            cells = None if cells is None else cells.narrow(1 + axis, start, length)
        part = None if cells is None else cells.flatten(0, 2)
        return replace(self, source=source, rows=part, corner=(rows[0], cols[0]))

    def table(self) -> Tensor:
        """The product, a row for each term of a cell, (B * h' * w' * M, D)."""
        return self.rows.reshape(-1, len(self.weight))

    def lookup(self, ty: Taps, tx: Taps) -> Lookup:
        """Rows of :meth:`table` that answer samples, and their weights.

        Args:
            ty, tx: taps that broadcast to (T, 1 or B, *S).

        Returns:
            (M * T * T, B, *S) each.
        """
        cells, terms = self._index(ty, tx), self.terms
        weights = _term_weights(ty, tx, terms)
        if terms == 1:
            return cells, weights[0]
        index = torch.cat([cells * terms + term for term in range(terms)])
        return index, torch.cat([weight.expand(cells.shape) for weight in weights])

    def _index(self, ty: Taps, tx: Taps) -> Tensor:
        """Numbers (T * T, B, *S) of the cells that taps refer to."""
        h, w = self.size
        rows, cols = ty.cells - self.corner[0], tx.cells - self.corner[1]
        index = (rows[:, None] * w + cols[None]).flatten(0, 1)
        images = torch.arange(len(self.source), device=index.device) * (h * w)
        return index + images.view(-1, *[1] * (index.dim() - 2))

    def sample(self, ty: Taps, tx: Taps) -> Tensor:
        """Compute the product with features at samples, (B * samples, D).

        Args:
            ty, tx: see :meth:`lookup`.
        """
        index, weights = self._index(ty, tx), _term_weights(ty, tx, self.terms)
        if isinstance(self.source, Tensor):
            rows = self.source.permute(0, 2, 3, 1).reshape(-1, self.source.shape[1])
            parts = [sum_rows([rows], [(index, weight)]) for weight in weights]
        else:  # its ReLU comes before the sum
            features = self.source.values_at(index.flatten(1))  # (T * T, B * samples, C)
            parts = [
                _weighted(features, None if weight is None else weight.expand(index.shape)).sum(0)
                for weight in weights
            ]
        return F.linear(torch.cat(parts, dim=1), self.weight[:, :, 0, 0], self.bias)


class Rows:
    """Table of rows (N, D) whose sums are pre-activations of samples.

    Its rows are cells of bound levels and the position terms of a grid's rows and columns.

    Args:
        levels: of an alignment. Those that are not bound are sampled.
        axis_terms: (n, D) of a grid's rows and of its columns, or none.
        together: copy all rows into one tensor, so that a sum is one pass over memory.
        own: index of the level whose cells are the samples of a grid. Sums are made in place of
            them, so that each sample may be summed once. None for none.
    """

    def __init__(
        self,
        levels: Sequence[BoundLevel],
        axis_terms: Sequence[Tensor],
        *,
        together: bool = False,
        own: int | None = None,
    ) -> None:
        self._roles = ["sampled" if level.rows is None else "looked up" for level in levels]
        dtypes = [level.rows.dtype for level in levels if level.rows is not None]
        self._own: Tensor | None = None
        if own is not None:
            self._roles[own] = "own"
            self._own = levels[own].rows.unflatten(0, (-1, *levels[own].size))
        pairs = zip(levels, self._roles, strict=True)
        tables = [level.table() for level, role in pairs if role == "looked up"]
        tables += [term.to(dtypes[0] if dtypes else term.dtype) for term in axis_terms]
        self._with_terms = len(axis_terms) > 0
        self._starts: list[int] | None = None
        if together and len(tables) > 1:
            self._starts = list(accumulate(map(len, tables[:-1]), initial=0))
            tables = [torch.cat(tables)]
        self._tables = tables
        self._levels = [replace(level, rows=None) for level in levels]

    def sum(
        self, place: Place, taps: Sequence[tuple[Taps, Taps]], numbers: Sequence[Tensor]
    ) -> Tensor:
        """Sum the rows that answer each sample of a part of a block, (B * samples, D).

        Args:
            place: of the part.
            taps: of each level, which broadcast to (T, 1 or B, *S).
            numbers: which of the axis terms; they broadcast to (1, *S).
        """
        lookups: list[Lookup] = []
        parts = []
        for level, role, pair in zip(self._levels, self._roles, taps, strict=True):
            if role == "looked up":
                lookups.append(level.lookup(*pair))
            elif role == "sampled":
                parts.append(level.sample(*pair))
        if self._with_terms:
            size = torch.broadcast_shapes(*(n.shape for n in numbers))[1:]
            batch = len(self._levels[0].source)
            lookups += [(n.expand(batch, *size)[None], None) for n in numbers]
        if self._starts is not None:
            lookups = [_merge(lookups, self._starts)]
        if lookups:
            parts.insert(0, sum_rows(self._tables, lookups))
        if self._own is not None:
            own = self._own[(slice(None), *place)].flatten(0, -2)
            # What has a gradient is not overwritten: autograd would have to copy it.
            parts.insert(len(parts) if own.requires_grad else 0, own)
        total, *others = parts
        for part in others:
            total = total.add_(part)
        return total


def pair_weights(ty: Taps, tx: Taps) -> Tensor | None:
    """Weights (T * T, 1 or B, *S) of pairs of taps; None for single taps."""
    if ty.weights is None or tx.weights is None:
        return None
    return (ty.weights[:, None] * tx.weights[None]).flatten(0, 1)


def _term_weights(ty: Taps, tx: Taps, terms: int) -> list[Tensor | None]:
    """Weights (T * T, 1 or B, *S) of cells' features and, of three terms, of their slopes."""
    weights = pair_weights(ty, tx)
    if terms == 1:
        return [weights]
    y, x = torch.broadcast_tensors(ty.offsets[:, None], tx.offsets[None])
    y, x = y.flatten(0, 1), x.flatten(0, 1)
    weights = torch.ones_like(y) if weights is None else weights
    return [weights, weights * y, weights * x]


def _weighted(features: Tensor, weights: Tensor | None) -> Tensor:
    """Multiply features (N, samples, C) by weights (N, ...) of as many samples."""
    return features if weights is None else features * weights.flatten(1)[..., None].to(features)


def sum_rows(tables: Sequence[Tensor], lookups: Sequence[Lookup]) -> Tensor:
    """Sum looked-up rows of tables (N, C), to one row (C,) a place.

    It is differentiable in the tables.

    Args:
        tables: one or more.
        lookups: one for each table, of the same places.
    """
    plan = []
    for table, (index, weights) in zip(tables, lookups, strict=True):
        if weights is not None:
            weights = weights.to(table.dtype).expand(index.shape).flatten(1).t().contiguous()
        plan.append((index.flatten(1).t().contiguous(), weights))
    return _SumRows.apply(plan, *tables)


def _merge(lookups: Sequence[Lookup], starts: Sequence[int]) -> Lookup:
    """Merge lookups into tables that begin at given rows of a common one."""
    index = [numbers + start for (numbers, _), start in zip(lookups, starts, strict=True)]
    given = next((weights for _, weights in lookups if weights is not None), None)
    if given is None:
        return torch.cat(index), None
    weights = [given.new_ones(()) if one is None else one for _, one in lookups]
    pairs = zip(weights, index, strict=True)
    return torch.cat(index), torch.cat([one.expand(numbers.shape) for one, numbers in pairs])


class _SumRows(torch.autograd.Function):
    """``embedding_bag`` over several tables.

    Tables are not saved for the backward pass, which adds nothing atomically.
    """

    @staticmethod
    def forward(ctx: Any, plan: Sequence[tuple[Tensor, Tensor | None]], *tables: Tensor) -> Tensor:
        ctx.plan, ctx.lengths = plan, [len(table) for table in tables]
        # Without gradients of its own, embedding_bag has a faster variant.
        terms = [(table.detach(), *part) for table, part in zip(tables, plan, strict=True)]
        out = _sum_of_one(*terms[0], slice(None))
        step = len(out)
        if out.device.type == "cpu":  # what is added up is still in the cache
            step = max(1, _CHUNK_BYTES // (out.shape[1] * out.element_size()))
        for part in (slice(i, i + step) for i in range(0, len(out), step)):
            for term in terms[1:]:
                out[part] += _sum_of_one(*term, part)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads: list[Tensor | None] = [None]
        for i, (index, weights) in enumerate(ctx.plan):
            needed = ctx.needs_input_grad[1 + i]
            table = _grad_of_table(grad, index, weights, ctx.lengths[i]) if needed else None
            grads.append(table)
        return tuple(grads)


def _sum_of_one(table: Tensor, index: Tensor, weights: Tensor | None, part: slice) -> Tensor:
    """Sum rows of one table (N, C) at a part of the places."""
    weights = None if weights is None else weights[part]
    return F.embedding_bag(index[part], table, mode="sum", per_sample_weights=weights)


def _grad_of_table(grad: Tensor, index: Tensor, weights: Tensor | None, length: int) -> Tensor:
    """Sum gradients over the places that looked a row up, to (length, C).

    The transposed lookup, sorted by row: it is deterministic, and sums in single precision.
    """
    rows, order = index.flatten().sort(stable=True)
    ends = torch.arange(length + 1, device=index.device, dtype=rows.dtype)
    return F.embedding_bag(
        order // index.shape[1],
        grad.contiguous(),
        torch.searchsorted(rows, ends),
        mode="sum",
        include_last_offset=True,
        per_sample_weights=None if weights is None else weights.flatten()[order],
    )
