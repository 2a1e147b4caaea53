"""Levels that are bound to an MLP: look up, add up, decode, tile by tile.

A *block* is a part of a query whose cells and position terms are held at once; a *tile* is a part
of a block whose samples pass through the MLP at once.

Shape legend: B batch, h x w cells of a level, S shape of a query, T cells that answer along one
axis, D channels of the first layer, K classes.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .levels import BoundLevel, PointwiseLevel, Rows, pair_weights
from .position import PositionEncoding
from .queries import GridQuery, GridSubset, Place, PointQuery, Query, Taps, split, tiles

# Sides of a grid up to which its position terms are held, however small a tile.
_LEAST_SIDE = 1024

# First and last row, first and last column, all included.
Span = tuple[tuple[int, int], tuple[int, int]]


class BoundAlignment:
    """Function from coordinates to logits: levels, bound to an MLP.

    It is made by :meth:`ImplicitAlignment.bind`. After weights have changed, levels are to be bound
    anew.

    Args:
        levels: of the field.
        positions: the encoding of each level, and its columns (D, p) of the first layer.
        local_ensemble, ensemble_outputs: see :class:`ImplicitAlignment`.
        decode: from pre-activations (B, D, H, W) of the first layer, which it may overwrite, to
            logits (B, K, H, W).
        num_classes: K.
        tile_queries: queries of all images that are decoded at once; None is all, as norms of
            several queries need it.
        kept_bytes: see :meth:`ImplicitAlignment.bind`.
    """

    def __init__(
        self,
        *,
        levels: Sequence[BoundLevel],
        positions: Sequence[tuple[PositionEncoding, Tensor]],
        local_ensemble: bool,
        ensemble_outputs: bool,
        decode: Callable[[Tensor], Tensor],
        num_classes: int,
        tile_queries: int | None,
        kept_bytes: int,
    ) -> None:
        self.levels = list(levels)
        self.positions = positions
        self.local_ensemble = local_ensemble
        self.ensemble_outputs = ensemble_outputs
        self.decode = decode
        self.num_classes = num_classes
        self._tile_queries = tile_queries
        self.kept_bytes = kept_bytes

    def __call__(self, query: Query) -> Tensor:
        """Compute logits (B, K, H, W) of a grid, (B, K, P) of points or a subset.

        Raises:
            ValueError: points of another number of images.
        """
        out: Tensor | None = None
        for place, logits in self.iter_tiles(query):
            if tuple(logits.shape[2:]) == query.size:
                return logits
            if out is None:
                out = logits.new_empty((*logits.shape[:2], *query.size))
            out[(..., *place)] = logits
        if out is None:  # nothing is asked
            out = self._weight.new_empty((self.batch, self.num_classes, *query.size))
        return out

    def iter_tiles(self, query: Query) -> Iterator[tuple[Place, Tensor]]:
        """Yield logits tile by tile, for results too large to be held at once.

        Yields:
            The place of a tile (slices of rows and columns, or of points) and its logits
            (B, K, ...). Tiles cover the query once. Where norms need all queries at once, or with
            gradients, there is one tile.

        Raises:
            ValueError: points of another number of images.
        """
        if isinstance(query, PointQuery) and len(query.coordinates) != self.batch:
            raise ValueError(
                f"coordinates must be of {self.batch} images as levels, got "
                f"{len(query.coordinates)}"
            )
        if 0 in query.size:
            return
        self._keep_small_levels()
        for origin, block in split(query, self._fits):
            for place, logits in self._answer(block):
                pairs = zip(origin, place, strict=True)
                yield tuple(slice(o + p.start, o + p.stop) for o, p in pairs), logits

    def covering(self, query: Query) -> "BoundAlignment":
        """Bind the cells that a query touches, to evaluate many parts of it.

        Returns:
            The same function, restricted to parts of that query. It holds those cells.
        """
        self._keep_small_levels()
        part = copy.copy(self)
        part.levels = [
            level.narrow(*span).bind()
            for level, span in zip(self.levels, self._spans(query), strict=True)
        ]
        return part

    def count_bytes(self, query: GridQuery) -> int:
        """Count the bytes of the cells that :meth:`covering` a grid binds."""
        spans = zip(self.levels, self._spans(query), strict=True)
        rows = sum(level.terms * _count_cells(span) for level, span in spans)
        return self.batch * rows * len(self._weight) * self._weight.element_size()

    @property
    def batch(self) -> int:
        """B."""
        return len(self.levels[0].source)

    @property
    def tile_queries(self) -> int | None:
        """How many queries of each image are decoded at once; None is all."""
        return None if self._tile_queries is None else max(1, self._tile_queries // self.batch)

    @property
    def _weight(self) -> Tensor:
        return self.levels[0].weight

    # -- what is held at once

    def _keep_small_levels(self) -> None:
        """Bind small levels, and any level whose cells depend on their neighbours.

        The choice does not depend on the query, so that equal queries get equal bits.
        """
        for i, level in enumerate(self.levels):
            rows = level.terms * math.prod(level.shape)
            size = self.batch * rows * len(level.weight) * level.source.dtype.itemsize
            small = self.tile_queries and size <= self.kept_bytes
            if level.rows is None and (small or level.weight.shape[-1] > 1):
                self.levels[i] = level.bind()

    def _fits(self, query: Query) -> bool:
        """Return whether the cells and position terms of a query may be held at once."""
        limit, samples = self.tile_queries, math.prod(query.size)
        if limit is None or samples == 1:
            return True
        if isinstance(query, PointQuery):  # whose encoded offsets may be wider than the layer
            width = len(self._weight)
            encoded = sum(encoding.num_features for encoding, _ in self.positions)
            return samples * max(width, encoded) <= limit * width
        grid = query.cropped().grid if isinstance(query, GridSubset) else query
        cells = [
            level.terms * min(_count_cells(span), samples)
            for level, span in zip(self.levels, self._spans(grid), strict=True)
            if level.rows is None or grid is query  # else they are looked up where they are
        ]
        return max(grid.size) <= max(limit, _LEAST_SIDE) and 2 * sum(cells) <= 3 * limit

    def _spans(self, query: Query) -> list[Span]:
        """First and last row and column that a query touches, of each level."""
        if isinstance(query, PointQuery):
            return [((0, h - 1), (0, w - 1)) for h, w in (level.shape for level in self.levels)]
        axes = (query.grid.rows, query.grid.cols)
        return [
            tuple(a.span(m, self.local_ensemble) for a, m in zip(axes, level.shape, strict=True))
            for level in self.levels
        ]

    # -- a block: samples whose cells and position terms are held at once

    def _answer(self, query: Query) -> Iterator[tuple[Place, Tensor]]:
        """Yield the places and logits (B, K, ...) of the tiles of a block."""
        if isinstance(query, GridSubset):
            query = query.cropped()
        taps = self._taps(query)
        if not self.ensemble_outputs:
            yield from self._decode_sums(query, taps)
            return
        (ty, tx), *others = taps
        corners = [
            self._decode_sums(query, [(ty.one(y), tx.one(x)), *others])
            for y, x in product((0, 1), (0, 1))
        ]
        for answers in zip(*corners, strict=True):
            place = answers[0][0]
            picked = _pick(taps[:1], self._numbers(query, place))
            weights = pair_weights(*picked[0])  # (4, 1 or B, *S)
            yield (
                place,
                sum(
                    logits * weight[:, None].to(logits.dtype)
                    for (_, logits), weight in zip(answers, weights, strict=True)
                ),
            )

    def _decode_sums(
        self, query: Query, taps: Sequence[tuple[Taps, Taps]]
    ) -> Iterator[tuple[Place, Tensor]]:
        """Yield the tiles of a block, of the cells that the given taps weight."""
        points = isinstance(query, PointQuery)
        terms = [] if points else self.axis_terms(taps)
        own = self._own_level(query)
        rows = Rows(
            self._touched_levels(query, taps, own),
            terms,
            # Of the cells around a subset, few may be asked.
            together=isinstance(query, GridQuery)
            and (self.tile_queries is not None or own is not None),
            own=own,
        )
        for place in tiles(query.size, None if points else self.tile_queries):
            size = [self.batch, *(part.stop - part.start for part in place)]
            numbers = self._numbers(query, place)
            picked = _pick(taps, numbers)
            x = rows.sum(place, picked, numbers)
            if self._has_positions and (self.coupled or points):
                x = x.add_(self.joint_term(picked).expand(*size, -1).reshape(x.shape))
            x = x.view(self.batch, -1, size[-1], x.shape[-1]).permute(0, 3, 1, 2)
            logits = self.decode(x).flatten(2).unflatten(2, size[1:])
            del x  # before the next tile is made
            yield place, logits

    def _own_level(self, query: Query) -> int | None:
        """Index of a level, not kept, whose cells are the samples of a block; or None."""
        if self.ensemble_outputs or not isinstance(query, GridQuery):
            return None
        for i, level in enumerate(self.levels):
            axes = zip((query.rows, query.cols), level.shape, strict=True)
            if level.rows is None and all(axis.on_cells(m) for axis, m in axes):
                return i
        return None

    def _numbers(self, query: Query, place: Place) -> list[Tensor]:
        """Row and column numbers of a place, which broadcast to (1, *S); none for points."""
        if isinstance(query, PointQuery):
            return []
        return [number.to(self._weight.device) for number in query.numbers(place)]

    def _touched_levels(
        self, query: Query, taps: Sequence[tuple[Taps, Taps]], own: int | None
    ) -> list[BoundLevel]:
        """Narrow levels to the cells that a block touches, and bind them.

        A level of more cells than the block has samples is left to be sampled.
        """
        samples, levels = math.prod(query.size), []
        spans = self._spans(query)
        on_cpu = self._weight.device.type == "cpu"  # another device would be waited for
        if isinstance(query, PointQuery) and self.tile_queries is not None and on_cpu:
            spans = [tuple(map(Taps.span, pair)) for pair in taps]
        for i, (level, span) in enumerate(zip(self.levels, spans, strict=True)):
            if i == own:
                axes = zip((query.rows, query.cols), level.shape, strict=True)
                own_cells = (axis.span(m, ensemble=False) for axis, m in axes)
                level = level.without_slopes().narrow(*own_cells).bind()
            elif level.rows is None or isinstance(query, GridQuery):
                part = level.narrow(*span)
                # Where it is sampled, a level on request is evaluated once a tap.
                taps = 4 if self.local_ensemble and isinstance(level.source, PointwiseLevel) else 1
                level = part.bind() if math.prod(part.size) <= samples * taps else part
            levels.append(level)
        return levels

    def _taps(self, query: Query) -> list[tuple[Taps, Taps]]:
        """Taps of each level along y and x, in single precision at least.

        They are (T, n) along the axes of a grid, (T, B, P) of points.
        """
        dtype = torch.promote_types(self._weight.dtype, torch.float32)
        out = []
        for level in self.levels:
            if isinstance(query, PointQuery):
                pair = query.taps(*level.shape, self.local_ensemble)
            else:
                axes = zip((query.grid.rows, query.grid.cols), level.shape, strict=True)
                pair = (axis.taps(m, self.local_ensemble) for axis, m in axes)
            out.append(tuple(taps.to(self._weight.device, dtype) for taps in pair))
        return out

    # -- position terms, in single precision at least, also under autocast

    @property
    def coupled(self) -> bool:
        """Whether frequencies act on both axes together."""
        return self.positions[0][0].coupled

    @property
    def _has_positions(self) -> bool:
        return self.positions[0][0].num_features > 0

    def _full_precision(self) -> AbstractContextManager[Any]:
        """Disable autocast on devices that have it."""
        kind = self._weight.device.type
        available = torch.amp.is_autocast_available(kind)
        return torch.autocast(kind, enabled=False) if available else nullcontext()

    def axis_terms(self, taps: Sequence[tuple[Taps, Taps]]) -> list[Tensor]:
        """Position terms (*S, D) along y and along x, summed over levels.

        There are none without positions, and where frequencies act on both axes together.
        """
        if self.coupled or not self._has_positions:
            return []
        with self._full_precision():
            return [_linear(self._axis_features(taps, axis)) for axis in (0, 1)]

    def joint_term(self, taps: Sequence[tuple[Taps, Taps]]) -> Tensor:
        """Position term (1 or B, *S, D) of samples by themselves, summed over axes and levels."""
        with self._full_precision():
            if not self.coupled:
                return _linear(self._axis_features(taps, 0) + self._axis_features(taps, 1))
            pairs = []
            for (encoding, weight), (ty, tx) in zip(self.positions, taps, strict=True):
                offsets = torch.broadcast_tensors(ty.offsets[:, None], tx.offsets[None])
                feature = encoding(offsets, (ty.footprints, tx.footprints)).flatten(0, 1)
                pairs.append((_weighted_sum(feature, pair_weights(ty, tx)), weight))
            return _linear(pairs)

    def _axis_features(
        self, taps: Sequence[tuple[Taps, Taps]], axis: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Encoded offsets (*S, f) along an axis and their columns (D, f), of each level."""
        pairs = []
        for (encoding, weight), pair in zip(self.positions, taps, strict=True):
            t = pair[axis]
            feature = encoding.encode_axis(t.offsets, t.footprints, axis)  # (T, *S, f)
            columns = torch.cat([weight[:, part] for part in encoding.axis_columns(axis)], 1)
            pairs.append((_weighted_sum(feature, t.weights), columns))
        return pairs


def _pick(taps: Sequence[tuple[Taps, Taps]], numbers: Sequence[Tensor]) -> list[tuple[Taps, Taps]]:
    """Pick the taps of numbered samples, which broadcast to (T, 1 or B, *S).

    Without numbers, as of points, taps are returned as they are.
    """
    return [tuple(map(Taps.pick, pair, numbers)) if numbers else pair for pair in taps]


def _count_cells(span: Span) -> int:
    return math.prod(last - first + 1 for first, last in span)


def _weighted_sum(feature: Tensor, weights: Tensor | None) -> Tensor:
    """Sum features (T, *S, f) over taps to (*S, f)."""
    return feature[0] if weights is None else (feature * weights[..., None]).sum(0)


def _linear(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Multiply joined features (*S, f) by joined columns (D, f), to (*S, D)."""
    features, columns = zip(*pairs, strict=True)
    joined = torch.cat(features, -1)
    return F.linear(joined, torch.cat(columns, 1).to(joined.dtype))
