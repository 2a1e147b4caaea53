"""The first layer of the alignment MLP, taken apart by its columns.

Its product with a level's features does not depend on the query: it is taken once a feature cell,
at the level's own resolution, and looked up afterwards. Its product with a position encoding
depends on the row and on the column of a query apart (unless frequencies are coupled): on a grid
that is a vector for each row and one for each column.

Shape legend: B batch, C channels of a level, h x w cells of a level, H x W query grid, P points, D
channels of the first hidden layer, T taps an axis, S any shape of queries.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .cells import (
    axis_lookups,
    bounding_box,
    cell_lookup,
    joint_weights,
    restrict,
    sample_level,
)
from .levels import Level, PointwiseLevel, Projected, materialize
from .lookup import Lookup, Terms
from .position import PositionEncoding
from .queries import GridQuery, GridSubset, PointQuery, Query, Taps, coordinate_taps


@dataclass(frozen=True)
class FirstLayer:
    """A first layer: its weights (possibly with a norm folded in) and what they act on.

    Attributes:
        weight: (D, columns, 1, 1); a level's columns are its position encoding, then its features.
        bias: (D,).
        encodings: a position encoding for each level.
        in_channels: C of each level.
        unfold: features are those of the 3x3 neighbourhood, channel by channel.
        ensemble: the two nearest cells of each axis answer, instead of the nearest.
    """

    weight: Tensor
    bias: Tensor
    encodings: Sequence[PositionEncoding]
    in_channels: tuple[int, ...]
    unfold: bool
    ensemble: bool

    def columns(self, i: int) -> tuple[Tensor, Tensor]:
        """Level i's position weights (D, p) and feature weights (D, C, k, k)."""
        k = 3 if self.unfold else 1
        sizes = [e.num_features for e in self.encodings]
        start = sum(sizes[:i]) + sum(self.in_channels[:i]) * k * k
        split = start + sizes[i]
        feature = self.weight[:, split : split + self.in_channels[i] * k * k, 0, 0]
        return self.weight[:, start:split, 0, 0], feature.unflatten(1, (-1, k, k))

    def project(self, level: Level, i: int) -> Tensor:
        """(B, C, h, w) to (B, D, h, w). The first level carries the bias: its weights sum to 1."""
        weight = self.columns(i)[1]
        bias = self.bias if i == 0 else None
        return F.conv2d(materialize(level), weight, bias, padding=weight.shape[-1] // 2)

    def project_touched(
        self, levels: Sequence[Level], positions: "GridPositions"
    ) -> list[Projected]:
        """Projections of all cells in between those that answer a grid."""
        out = []
        for i, (level, (ty, tx)) in enumerate(zip(levels, positions.taps, strict=True)):
            if self.unfold:
                out.append(Projected(self.project(level, i)))
                continue
            (top, left), (bottom, right) = (
                [int(limit(taps.cells)) for taps in (ty, tx)] for limit in (torch.amin, torch.amax)
            )
            part = level.narrow(2, top, bottom - top + 1).narrow(3, left, right - left + 1)
            out.append(Projected(self.project(part, i), top, left))
        return out

    def __call__(
        self, levels: Sequence[Level], query: Query, kept: Sequence[Projected | None] = ()
    ) -> Tensor:
        """Pre-activations: (B, D, H, W) for a grid, (B, D, 1, P) for points and subsets.

        Args:
            levels: (B, C, h, w) each.
            query: where to evaluate.
            kept: projections to be used instead of a level's features, of the cells that answer.
        """
        if isinstance(query, GridQuery):
            return self.grid(levels, self.positions(levels, query), kept).terms().sum()
        if isinstance(query, GridSubset):
            positions = self.positions(levels, query.grid)
            return self.subset(levels, positions, query.index, kept).sum()
        return self.points(levels, query, kept).sum()

    def positions(self, levels: Sequence[Level], query: GridQuery) -> "GridPositions":
        """Which cells answer a grid, and its position terms."""
        taps = [
            (query.rows.taps(h, self.ensemble), query.cols.taps(w, self.ensemble))
            for h, w in (level.shape[2:] for level in levels)
        ]
        axes = None
        if self.encodings[0].num_features and not self.encodings[0].coupled:
            axes = tuple(self.axis_term([pair[axis] for pair in taps], axis) for axis in (0, 1))
        return GridPositions(taps, axes)

    def grid(
        self,
        levels: Sequence[Level],
        positions: "GridPositions",
        kept: Sequence[Projected | None] = (),
    ) -> "GridSums":
        """What the samples of a grid are sums of; arguments as of :meth:`__call__`."""
        bases: list[tuple[Tensor, bool]] = []
        lookups: list[tuple[Tensor, Taps, Taps]] = []
        kept = kept or [None] * len(levels)
        for i, (level, whole, (ty, tx)) in enumerate(
            zip(levels, kept, positions.taps, strict=True)
        ):
            if self.unfold and whole is None:  # a neighbourhood does not survive being cut out
                whole = Projected(self.project(level, i))
            if whole is not None:
                ty, tx = ty.counted_from(whole.top), tx.counted_from(whole.left)
            identity = ty.identity and tx.identity
            needed = slice(0, 1 if identity else None)  # the second tap's weight is then 0
            source, cell_y = restrict(level if whole is None else whole.values, ty.cells[needed], 2)
            source, cell_x = restrict(source, tx.cells[needed], 3)
            table = self.project(source, i) if whole is None else source
            if identity:
                bases.append((table, whole is None))
            else:
                lookups.append((table, replace(ty, cells=cell_y), replace(tx, cells=cell_x)))
        return GridSums(self, positions, bases, lookups)

    def subset(
        self,
        levels: Sequence[Level],
        positions: "GridPositions",
        index: Tensor,
        kept: Sequence[Projected | None] = (),
    ) -> Terms:
        """What the pre-activations (B, D, 1, P) of samples (P, 2) of a grid are sums of."""
        y, x = index[None].unbind(-1)  # (1, P): the same of all images
        taps = [(ty.select(y), tx.select(x)) for ty, tx in positions.taps]
        lookups, direct = self._cells(levels, taps, len(index), kept, compact=True)
        batch = len(levels[0])
        if self.encodings[0].coupled:
            direct.append(_as_map(self.joint_term(taps), batch))
        elif positions.axes is not None:
            like = lookups[0].table if lookups else direct[0]
            lookups += axis_lookups(positions.axes, index, batch, like)
        return Terms(lookups, direct, batch, (1, len(index)))

    def points(
        self,
        levels: Sequence[Level],
        query: PointQuery,
        kept: Sequence[Projected | None] = (),
    ) -> Terms:
        """What the pre-activations (B, D, 1, P) of points are sums of."""
        y, x = query.coordinates.unbind(-1)  # (B, P)
        taps = [
            tuple(coordinate_taps(c, n, self.ensemble) for c, n in ((y, h), (x, w)))
            for h, w in (level.shape[2:] for level in levels)
        ]
        lookups, direct = self._cells(levels, taps, len(query), kept, compact=False)
        batch = len(levels[0])
        if self.encodings[0].coupled:
            direct.append(_as_map(self.joint_term(taps), batch))
        elif self.encodings[0].num_features:
            term = self.axis_term([ty for ty, _ in taps], 0)
            direct.append(_as_map(term + self.axis_term([tx for _, tx in taps], 1), batch))
        return Terms(lookups, direct, batch, (1, len(query)))

    def _cells(
        self,
        levels: Sequence[Level],
        taps: Sequence[tuple[Taps, Taps]],
        points: int,
        kept: Sequence[Projected | None],
        compact: bool,
    ) -> tuple[list[Lookup], list[Tensor]]:
        """Lookups in projected levels, and projections (B, D, 1, P) of what was looked up.

        ``compact`` says that the points may lie close together, so that their cells are looked for.
        """
        lookups: list[Lookup] = []
        direct: list[Tensor] = []
        kept = kept or [None] * len(levels)
        for i, (level, whole, (ty, tx)) in enumerate(zip(levels, kept, taps, strict=True)):
            if whole is None and compact and not self.unfold:
                level, ty, tx = bounding_box(level, ty, tx)
            # Sampled before it is projected, a lazy level is evaluated once a tap.
            samples = points * (
                len(ty.cells) * len(tx.cells) if isinstance(level, PointwiseLevel) else 1
            )
            if whole is None and (self.unfold or math.prod(level.shape[2:]) <= samples):
                whole = Projected(self.project(level, i))
            if whole is not None:
                ty, tx = ty.counted_from(whole.top), tx.counted_from(whole.left)
                lookups.append(cell_lookup(whole.values, ty, tx))
            else:  # fewer points than cells
                direct.append(self.project(sample_level(level, ty, tx), i))
        return lookups, direct

    # -- position terms, in single precision at least

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.weight.dtype, torch.float32)

    def axis_term(self, taps: Sequence[Taps], axis: int) -> Tensor:
        """What the offsets along one axis add, over all levels: (*S, D)."""
        with torch.autocast(self.weight.device.type, enabled=False):
            features, weights = [], []
            taps = [t.to(self.weight.device, self._dtype) for t in taps]
            for i, (encoding, t) in enumerate(zip(self.encodings, taps, strict=True)):
                feature = encoding.encode_axis(t.offsets, axis)  # (T, *S, f)
                features.append(_weighted_sum(feature, t.weights))
                weights.append(self.columns(i)[0][:, encoding.axis_columns(axis)])
            return F.linear(torch.cat(features, -1), torch.cat(weights, 1).to(self._dtype))

    def joint_term(self, taps: Sequence[tuple[Taps, Taps]]) -> Tensor:
        """What the offsets add where frequencies are coupled: (*S, D)."""
        with torch.autocast(self.weight.device.type, enabled=False):
            features, weights = [], []
            taps = [tuple(t.to(self.weight.device, self._dtype) for t in pair) for pair in taps]
            for i, (encoding, (ty, tx)) in enumerate(zip(self.encodings, taps, strict=True)):
                dy, dx = torch.broadcast_tensors(ty.offsets[:, None], tx.offsets[None])
                feature = encoding(dy, dx).flatten(0, 1)  # (T * T, *S, p)
                features.append(_weighted_sum(feature, joint_weights(ty, tx)))
                weights.append(self.columns(i)[0])
            return F.linear(torch.cat(features, -1), torch.cat(weights, 1).to(self._dtype))


@dataclass(frozen=True)
class GridPositions:
    """Where the samples of a grid lie.

    Attributes:
        taps: of rows and of columns, for each level.
        axes: position terms (H, D) of rows and (W, D) of columns; None where there are none, or
            where they are not per axis.
    """

    taps: Sequence[tuple[Taps, Taps]]
    axes: tuple[Tensor, Tensor] | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the grid."""
        ty, tx = self.taps[0]
        return ty.cells.shape[1], tx.cells.shape[1]

    def part(self, rows: slice) -> "GridPositions":
        """A run of the rows."""
        axes = None if self.axes is None else (self.axes[0][rows], self.axes[1])
        return GridPositions([(ty.part(rows), tx) for ty, tx in self.taps], axes)


@dataclass(frozen=True)
class GridSums:
    """What a grid's pre-activations are sums of, for any rows of it.

    Attributes:
        layer: the layer they are of.
        positions: of the grid's samples.
        bases: projected levels (B, D, H, W) that have the grid's own cells, and whether they may
            be overwritten.
        lookups: projected levels, and the taps of rows and of columns in them.
    """

    layer: FirstLayer
    positions: GridPositions
    bases: list[tuple[Tensor, bool]]
    lookups: list[tuple[Tensor, Taps, Taps]]

    def terms(self, rows: slice | None = None) -> Terms:
        """Those (B, D, H', W') of a run of rows, or of all; each row may be asked once."""
        positions, bases, taps = self.positions, [base for base, _ in self.bases], self.lookups
        if rows is not None:
            positions = positions.part(rows)
            bases = [base[:, :, rows] for base in bases]
            taps = [(*_rows_of(table, ty.part(rows)), tx) for table, ty, tx in taps]
        if bases and not self.bases[0][1]:
            bases[0] = bases[0].clone()
        lookups = [
            cell_lookup(table, ty.unsqueeze(1, -1), tx.unsqueeze(1, 1))
            for table, ty, tx in taps  # (T, 1, H, 1) and (T, 1, 1, W)
        ]
        like = bases[0] if bases else lookups[0].table
        batch = len(bases[0] if bases else taps[0][0])
        if positions.axes is not None:
            index = torch.cartesian_prod(*(torch.arange(n) for n in positions.size))
            lookups += axis_lookups(positions.axes, index, batch, like)
        elif self.layer.encodings[0].coupled:
            pairs = [(ty.unsqueeze(-1), tx.unsqueeze(-2)) for ty, tx in positions.taps]
            term = self.layer.joint_term(pairs)
            bases.append(term.permute(2, 0, 1).expand(batch, -1, -1, -1))
        return Terms(lookups, bases, batch, positions.size)


def _rows_of(table: Tensor, ty: Taps) -> tuple[Tensor, Taps]:
    """The rows of a map that taps touch, and the taps counted in them."""
    part, cells = restrict(table, ty.cells, 2)
    return part, replace(ty, cells=cells)


def _weighted_sum(feature: Tensor, weights: Tensor | None) -> Tensor:
    """(T, *S, f) features over their T taps: (*S, f)."""
    return feature[0] if weights is None else (feature * weights[..., None]).sum(0)


def _as_map(term: Tensor, batch: int) -> Tensor:
    """(B or 1, P, D) to (B, D, 1, P)."""
    return term.permute(0, 2, 1)[:, :, None].expand(batch, -1, -1, -1)
