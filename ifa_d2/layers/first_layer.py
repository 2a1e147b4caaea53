"""The first layer of the alignment MLP, taken apart by its columns.

Its product with a level's features does not depend on the query: it is taken once a feature cell,
at the level's own resolution, and looked up afterwards. Its product with a position encoding
depends on the row and on the column of a query apart (unless frequencies are coupled): on a grid
that is a vector for each row and one for each column. :mod:`ifa_d2.layers.grid_terms` holds what a
grid's samples are sums of; :mod:`ifa_d2.layers.lookup` sums.

Shape legend: B batch, C channels of a level, h x w cells of a level, H x W query grid, P points, D
channels of the first hidden layer, T taps an axis, S any shape of queries.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
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
from .grid_terms import GridPositions, GridTerms
from .levels import Level, PointwiseLevel, Projected, materialize
from .lookup import Lookup, Terms
from .position import PositionEncoding
from .queries import GridQuery, GridSubset, PointQuery, Query, Taps


@dataclass(frozen=True)
class FirstLayer:
    """A first layer: its weights (possibly with a norm folded in) and what they act on.

    Attributes:
        weight: (D, columns, 1, 1); a level's columns are its position encoding, then its features.
        bias: (D,).
        encodings: a position encoding for each level, all of one kind.
        in_channels: C of each level.
        unfold: features are those of the 3x3 neighbourhood, channel by channel.
        ensemble: the two nearest cells of each axis answer, instead of the nearest.
        corner: which of the two answers on the first level, along y and x, with its own offset and
            the other's left out; None for both.
    """

    weight: Tensor
    bias: Tensor
    encodings: Sequence[PositionEncoding]
    in_channels: tuple[int, ...]
    unfold: bool
    ensemble: bool
    corner: tuple[int, int] | None = None

    @property
    def coupled(self) -> bool:
        """Whether frequencies act on both axes together, so that no axis has terms of its own."""
        return self.encodings[0].coupled

    def corners(self, apart: bool) -> list["FirstLayer"]:
        """Itself, or with ``apart`` the four whose answers :meth:`share` weights."""
        pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
        return [replace(self, corner=pair) for pair in pairs] if apart else [self]

    def share(self, level: Level, query: Query) -> Tensor:
        """The corner's weight in the local ensemble of the first level: (B or 1, 1, *query)."""
        y, x = self.corner or (0, 0)
        if isinstance(query, PointQuery):
            ty, tx = query.taps(*level.shape[2:], True)
            share = ty.weights[y] * tx.weights[x]  # (B, P)
            return share[:, None].to(level.device)
        grid = query.grid if isinstance(query, GridSubset) else query
        rows = grid.rows.taps(level.shape[2], True).weights[y].to(level.device)
        cols = grid.cols.taps(level.shape[3], True).weights[x].to(level.device)
        if isinstance(query, GridSubset):
            i, j = query.index.to(level.device).unbind(1)
            return (rows[i] * cols[j])[None, None]
        return (rows[:, None] * cols)[None, None]

    def columns(self, i: int) -> tuple[Tensor, Tensor]:
        """Level i's position weights (D, p) and feature weights (D, C, k, k)."""
        k = 3 if self.unfold else 1
        sizes = [e.num_features for e in self.encodings]
        start = sum(sizes[:i]) + sum(self.in_channels[:i]) * k * k
        split = start + sizes[i]
        feature = self.weight[:, split : split + self.in_channels[i] * k * k, 0, 0]
        return self.weight[:, start:split, 0, 0], feature.unflatten(1, (-1, k, k))

    def project(self, level: Level, i: int) -> Tensor:
        """Level i, (B, C, h, w), to (B, D, h, w).

        The first level carries the bias: the weights that it is looked up with sum to 1.
        """
        weight = self.columns(i)[1]
        bias = self.bias if i == 0 else None
        return F.conv2d(materialize(level), weight, bias, padding=weight.shape[-1] // 2)

    def project_touched(self, levels: Sequence[Level], positions: GridPositions) -> list[Projected]:
        """Projections of all cells in between those that answer a grid."""
        out = []
        for i, (level, (ty, tx)) in enumerate(zip(levels, positions.taps, strict=True)):
            if self.unfold:
                out.append(Projected(self.project(level, i)))
                continue
            top, bottom = (int(limit) for limit in ty.cells.aminmax())
            left, right = (int(limit) for limit in tx.cells.aminmax())
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
            kept: for each level, its projection at least at the cells that answer, which is then
                used instead of its features; or None. Empty is None for all.
        """
        if isinstance(query, GridQuery):
            return self.grid_terms(levels, self.positions(levels, query), kept).part().sum()
        if isinstance(query, GridSubset):
            positions = self.positions(levels, query.grid)
            return self.subset_terms(levels, positions, query.index, kept).sum()
        return self.point_terms(levels, query, kept).sum()

    def positions(self, levels: Sequence[Level], query: GridQuery) -> GridPositions:
        """Which cells answer a grid, and its position terms."""
        taps = self._of_corner(
            (query.rows.taps(h, self.ensemble), query.cols.taps(w, self.ensemble))
            for h, w in (level.shape[2:] for level in levels)
        )
        axes = None
        if self.encodings[0].num_features and not self.coupled:
            axes = tuple(self.axis_term([pair[axis] for pair in taps], axis) for axis in (0, 1))
        return GridPositions(taps, axes)

    def grid_terms(
        self,
        levels: Sequence[Level],
        positions: GridPositions,
        kept: Sequence[Projected | None] = (),
    ) -> GridTerms:
        """Terms of the samples of a grid; arguments as of :meth:`__call__`."""
        bases: list[tuple[Tensor, bool]] = []
        tables: list[tuple[Tensor, Taps, Taps]] = []
        kept = kept or [None] * len(levels)
        for i, (level, whole, (ty, tx)) in enumerate(
            zip(levels, kept, positions.taps, strict=True)
        ):
            if self.unfold and whole is None:  # a neighbourhood does not survive being cut out
                whole = Projected(self.project(level, i))
            if whole is not None:
                ty, tx = ty.counted_from(whole.top), tx.counted_from(whole.left)
            identity = ty.identity and tx.identity
            needed = slice(0, 1 if identity else None)  # a second tap's weight is then 0
            source, cell_y = restrict(level if whole is None else whole.values, ty.cells[needed], 2)
            source, cell_x = restrict(source, tx.cells[needed], 3)
            table = self.project(source, i) if whole is None else source
            if identity:
                bases.append((table, whole is None))
            else:
                tables.append((table, replace(ty, cells=cell_y), replace(tx, cells=cell_x)))
        return GridTerms(positions, bases, tables, self.joint_term if self.coupled else None)

    def subset_terms(
        self,
        levels: Sequence[Level],
        positions: GridPositions,
        index: Tensor,
        kept: Sequence[Projected | None] = (),
    ) -> Terms:
        """Terms of the pre-activations (B, D, 1, P) of samples (P, 2) of a grid."""
        y, x = index[None].unbind(-1)  # (1, P): the same of all images
        taps = [(ty.select(y), tx.select(x)) for ty, tx in positions.taps]
        lookups, direct = self._cells(levels, taps, len(index), kept, compact=True)
        batch = len(levels[0])
        if self.coupled:
            direct.append(_as_map(self.joint_term(taps), batch))
        elif positions.axes is not None:
            like = lookups[0].table if lookups else direct[0]
            lookups += axis_lookups(positions.axes, index, batch, like)
        return Terms(lookups, direct, batch, (1, len(index)))

    def point_terms(
        self,
        levels: Sequence[Level],
        query: PointQuery,
        kept: Sequence[Projected | None] = (),
    ) -> Terms:
        """Terms of the pre-activations (B, D, 1, P) of points (B, P, 2)."""
        taps = self._of_corner(
            query.taps(*level.shape[2:], self.ensemble) for level in levels
        )  # (T, B, P)
        lookups, direct = self._cells(levels, taps, len(query), kept, compact=False)
        batch = len(levels[0])
        if self.coupled:
            direct.append(_as_map(self.joint_term(taps), batch))
        elif self.encodings[0].num_features:
            direct.append(_as_map(self.axes_term(taps), batch))
        return Terms(lookups, direct, batch, (1, len(query)))

    def _of_corner(self, taps: Iterable[tuple[Taps, Taps]]) -> list[tuple[Taps, Taps]]:
        """The taps of all levels, those of the first reduced to the corner that answers."""
        taps = list(taps)
        if self.corner is not None:
            taps[0] = tuple(t.one(tap) for t, tap in zip(taps[0], self.corner, strict=True))
        return taps

    def _cells(
        self,
        levels: Sequence[Level],
        taps: Sequence[tuple[Taps, Taps]],
        points: int,
        kept: Sequence[Projected | None],
        compact: bool,
    ) -> tuple[list[Lookup], list[Tensor]]:
        """The levels' terms: lookups in projections, and projections (B, D, 1, P) of samples.

        Of what is cheaper: a level's cells are projected and then looked up, or, where there are
        fewer points than cells, it is sampled at the points and then projected. ``compact`` says
        that the points may lie close together: cells outside their bounding box then do not count.
        """
        lookups: list[Lookup] = []
        direct: list[Tensor] = []
        kept = kept or [None] * len(levels)
        for i, (level, whole, (ty, tx)) in enumerate(zip(levels, kept, taps, strict=True)):
            if whole is None and compact and not self.unfold:
                level, ty, tx = bounding_box(level, ty, tx)
            # Sampled before it is projected, a level on request is evaluated once a tap.
            samples = points * (
                len(ty.cells) * len(tx.cells) if isinstance(level, PointwiseLevel) else 1
            )
            if whole is None and (self.unfold or math.prod(level.shape[2:]) <= samples):
                whole = Projected(self.project(level, i))
            if whole is not None:
                ty, tx = ty.counted_from(whole.top), tx.counted_from(whole.left)
                lookups.append(cell_lookup(whole.values, ty, tx))
            else:
                direct.append(self.project(sample_level(level, ty, tx), i))
        return lookups, direct

    # -- position terms, in single precision at least, also under autocast

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.weight.dtype, torch.float32)

    def axis_term(self, taps: Sequence[Taps], axis: int) -> Tensor:
        """Position term of the offsets along one axis, over all levels: (*S, D)."""
        return self._separable_term({axis: taps})

    def axes_term(self, taps: Sequence[tuple[Taps, Taps]]) -> Tensor:
        """Position term of the offsets along both axes, over all levels, in one: (*S, D)."""
        return self._separable_term({axis: [pair[axis] for pair in taps] for axis in (0, 1)})

    def _separable_term(self, taps: Mapping[int, Sequence[Taps]]) -> Tensor:
        """Position terms along the axes that have taps."""
        with torch.autocast(self.weight.device.type, enabled=False):
            features, weights = [], []
            for axis, along in taps.items():
                for i, (encoding, t) in enumerate(zip(self.encodings, along, strict=True)):
                    t = t.measures_to(self.weight.device, self._dtype)
                    feature = encoding.encode_axis(t.offsets, t.footprints, axis)  # (T, *S, f)
                    features.append(_weighted_sum(feature, t.weights))
                    columns = self.columns(i)[0]
                    weights += [columns[:, part] for part in encoding.axis_columns(axis)]
            return F.linear(torch.cat(features, -1), torch.cat(weights, 1).to(self._dtype))

    def joint_term(self, taps: Sequence[tuple[Taps, Taps]]) -> Tensor:
        """Position term of coupled frequencies: (*S, D)."""
        with torch.autocast(self.weight.device.type, enabled=False):
            features, weights = [], []
            for i, (encoding, pair) in enumerate(zip(self.encodings, taps, strict=True)):
                ty, tx = (t.measures_to(self.weight.device, self._dtype) for t in pair)
                offsets = torch.broadcast_tensors(ty.offsets[:, None], tx.offsets[None])
                feature = encoding(offsets, (ty.footprints, tx.footprints))
                share = None
                if ty.weights is not None and tx.weights is not None:
                    share = joint_weights(ty.weights, tx.weights)
                feature = feature.flatten(0, 1)  # (T * T, *S, p)
                features.append(_weighted_sum(feature, share))
                weights.append(self.columns(i)[0])
            return F.linear(torch.cat(features, -1), torch.cat(weights, 1).to(self._dtype))


def _weighted_sum(feature: Tensor, weights: Tensor | None) -> Tensor:
    """(T, *S, f) features over their T taps: (*S, f)."""
    return feature[0] if weights is None else (feature * weights[..., None]).sum(0)


def _as_map(term: Tensor, batch: int) -> Tensor:
    """(B or 1, P, D) to (B, D, 1, P)."""
    return term.permute(0, 2, 1)[:, :, None].expand(batch, -1, -1, -1)
