"""The implicit feature alignment function (paper, Sec. 3.3, Eq. 4).

The paper concatenates, over levels, the nearest feature z_i and the encoding psi_i of the offset to
its cell, and passes them to an MLP. The MLP's first layer is linear, so it splits by its columns:

    W [psi_1, z_1, psi_2, z_2, ...] + b  =  sum_i Wz_i z_i  +  sum_i Wp_i psi_i  +  b

``Wz_i z_i`` does not depend on the query: :meth:`ImplicitAlignment.bind` takes it once a cell. What
is left, a :class:`BoundAlignment`, is a function of coordinates: it looks up these rows, adds the
position terms (on a grid, a vector for each row and one for each column), and passes the sum to the
rest of the MLP. :mod:`ifa_d2.layers.textbook` is the same function as the paper writes it.

Shape legend: B batch, C channels and h x w cells of a level, L levels, S shape of a query, T cells
that answer along one axis, D channels of the first layer, K classes.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .levels import BoundLevel, Level, PointwiseLevel, Rows, pair_weights
from .mlp import NormFactory, PointwiseMLP, apply_tail
from .position import PositionEncoding, build_encodings, count_columns
from .queries import GridQuery, GridSubset, Place, PointQuery, Query, Taps, split, tiles

# What the widest layer of a tile may take. On a CPU a tile should stay in the last-level cache, and
# below the 32 MiB from which the C library asks the system for fresh pages each time.
TILE_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
# A level whose cells take no more than this after the first layer is bound whole, and kept.
KEPT_BYTES = 4 << 20
# Sides of a grid up to which its position terms are held, however small a tile.
_LEAST_SIDE = 1024

# First and last row, first and last column, all included.
Span = tuple[tuple[int, int], tuple[int, int]]


class ImplicitAlignment(nn.Module):
    """Logits at any coordinates from features at several resolutions.

    Args:
        in_channels: channels C of each level.
        num_classes: K.
        hidden_dims: sizes of the MLP's hidden layers; () is a linear classifier.
        encoding, num_frequencies, frequency_law, coupled_frequencies: see
            :class:`ifa_d2.layers.PositionEncoding`.
        integrated_encoding, cell_decoding: its ``integrated`` and ``cell``.
        unfold: a cell's features are those of its 3x3 neighbourhood (zeros beyond the border).
        local_ensemble: a query is answered by the four nearest cells of each level, their inputs
            (features, offsets and encodings) weighted bilinearly, so that the result is continuous
            in the coordinates. Without it the nearest cell answers alone.
        ensemble_outputs: with the local ensemble, the four cells of the first level answer apart
            and their logits are weighted (LIIF's order, https://arxiv.org/abs/2012.09161,
            Eq. 4), at four times the cost of the MLP; those of the other levels are weighted
            before, so that the result stays continuous.
        norm: called with a channel count to make a norm; None for no norm.

    Raises:
        ValueError: no level, or an option out of range.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        num_classes: int,
        hidden_dims: Sequence[int] = (512, 256, 256),
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled_frequencies: bool = False,
        integrated_encoding: bool = False,
        cell_decoding: bool = False,
        unfold: bool = False,
        local_ensemble: bool = False,
        ensemble_outputs: bool = False,
        norm: NormFactory | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if ensemble_outputs and not local_ensemble:
            raise ValueError("ensemble_outputs needs local_ensemble=True, got False")
        if not in_channels or min(in_channels) < 1:
            raise ValueError(f"in_channels must be positive sizes, got {tuple(in_channels)}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.in_channels = tuple(in_channels)
        self.unfold = unfold
        self.local_ensemble = local_ensemble
        self.ensemble_outputs = ensemble_outputs
        self.encodings = build_encodings(
            len(in_channels),
            encoding=encoding,
            num_frequencies=num_frequencies,
            frequency_law=frequency_law,
            coupled_frequencies=coupled_frequencies,
            integrated=integrated_encoding,
            cell=cell_decoding,
        )
        columns = count_columns(self.encodings, in_channels, unfold=unfold)
        self.mlp = PointwiseMLP(columns, hidden_dims, norm)
        self.predictor = nn.Conv2d([columns, *hidden_dims][-1], num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, levels: Sequence[Level], query: Query) -> Tensor:
        """Logits (B, K, *S) at a query; arguments and errors as of :meth:`bind`."""
        return self.bind(levels)(query)

    def bind(
        self,
        levels: Sequence[Level],
        *,
        kept_bytes: int = KEPT_BYTES,
        tile_bytes: int | None = None,
    ) -> "BoundAlignment":
        """Make the function of coordinates that these levels are.

        Without gradients, and where the norms let each query be answered by itself (batch norm in
        eval mode, group or layer norm, or none), norms are folded into the layers and queries are
        answered tile by tile, so that memory is bounded.

        Args:
            levels: L tensors (B, C, h, w), or what is projected to them
                (:class:`PointwiseLevel`), all of the same image extent.
            kept_bytes: a level that takes no more than this after the first layer is kept so.
            tile_bytes: what the widest layer of a tile may take; None is by the device.

        Raises:
            ValueError: levels that do not fit the layer or each other.
        """
        self._check(levels)
        return self.bound(levels, kept_bytes, tile_bytes)

    def bound(
        self, levels: Sequence[Level], kept_bytes: int = KEPT_BYTES, tile_bytes: int | None = None
    ) -> "BoundAlignment":
        modules = [*self.mlp.layers, self.predictor]
        weight, bias, tile_queries = modules[0].weight, modules[0].bias, None
        decode: Callable[[Tensor], Tensor] = self._decode
        if self.mlp.pointwise and not torch.is_grad_enabled():
            weight, bias, tail = self._folded()
            decode = partial(apply_tail, tail=tail)
            widest = max(module.out_channels for module in modules)
            limit = tile_bytes or TILE_BYTES.get(weight.device.type, TILE_BYTES["cpu"])
            tile_queries = max(1, limit // (widest * weight.element_size()))
        k = 3 if self.unfold else 1
        sizes = zip((e.num_features for e in self.encodings), self.in_channels, strict=True)
        sizes = [size for p, c in sizes for size in (p, c * k * k)]
        columns = weight[:, :, 0, 0].split(sizes, dim=1)
        biases = [bias, *[None] * (len(levels) - 1)]
        return BoundAlignment(
            levels=[
                BoundLevel(level, part.unflatten(1, (-1, k, k)), b, tuple(level.shape[2:]))
                for level, part, b in zip(levels, columns[1::2], biases, strict=True)
            ],
            positions=list(zip(self.encodings, columns[::2], strict=True)),
            local_ensemble=self.local_ensemble,
            ensemble_outputs=self.ensemble_outputs,
            decode=decode,
            num_classes=self.predictor.out_channels,
            tile_queries=tile_queries,
            kept_bytes=kept_bytes,
        )

    def _check(self, levels: Sequence[Level]) -> None:
        shapes = [tuple(level.shape) for level in levels]
        if len(levels) != len(self.in_channels) or any(len(s) != 4 for s in shapes):
            raise ValueError(
                f"levels must be {len(self.in_channels)} tensors (B, C, h, w), got shapes {shapes}"
            )
        if tuple(s[1] for s in shapes) != self.in_channels:
            raise ValueError(f"levels must have channels {self.in_channels}, got shapes {shapes}")
        if len({s[0] for s in shapes}) != 1 or any(0 in s for s in shapes):
            raise ValueError(f"levels must be of one batch and not empty, got shapes {shapes}")

    def _decode(self, x: Tensor) -> Tensor:
        """Pre-activations of the first layer to logits, (B, D, H, W) to (B, K, H, W)."""
        return self.predictor(self.mlp.forward_tail(x)) if self.mlp.layers else x

    def _folded(self) -> tuple[Tensor, Tensor, list[tuple[nn.Module | None, Tensor, Tensor]]]:
        """Weight and bias of the first layer, and the layers after it, norms folded where they can
        be."""
        if not self.mlp.layers:
            return self.predictor.weight, self.predictor.bias, []
        tail: list[tuple[nn.Module | None, Tensor, Tensor]] = []
        weight, bias, norm = self.mlp.layers[0].folded()
        for layer in self.mlp.layers[1:]:
            *folded, following = layer.folded()
            tail.append((norm, *folded))
            norm = following
        tail.append((norm, self.predictor.weight, self.predictor.bias))
        return weight, bias, tail


class BoundAlignment:
    """Logits at any coordinates, from levels that are bound to the first layer.

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
        """Logits (B, K, H, W) of a grid, (B, K, P) of points and samples of a grid.

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
        """Logits piece by piece, for results that are larger than what may be held at once.

        Yields:
            Where a piece belongs (rows and columns, or points), and its logits (B, K, ...). The
            pieces cover the query once. Where the norms need all queries at once there is one.

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
        """Bind the cells that answer a query, to ask many parts of it.

        Returns:
            The same function, defined for parts of that query alone. It holds those cells.
        """
        self._keep_small_levels()
        part = copy.copy(self)
        part.levels = [
            level.narrow(*span).bind()
            for level, span in zip(self.levels, self._spans(query), strict=True)
        ]
        return part

    def count_bytes(self, query: GridQuery) -> int:
        """Bytes of the cells that :meth:`covering` a grid binds."""
        cells = sum(map(_count_cells, self._spans(query)))
        return self.batch * cells * len(self._weight) * self._weight.element_size()

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
        """Bind levels of few cells, and all where a cell's product depends on its neighbours.

        It does not depend on the question: the same one always has the same bits.
        """
        for i, level in enumerate(self.levels):
            cells = math.prod(level.shape)
            size = self.batch * cells * len(level.weight) * level.source.dtype.itemsize
            small = self.tile_queries and size <= self.kept_bytes
            if level.rows is None and (small or level.weight.shape[-1] > 1):
                self.levels[i] = level.bind()

    def _fits(self, query: Query) -> bool:
        """Tell whether the cells and position terms of a query may be held at once."""
        limit, samples = self.tile_queries, math.prod(query.size)
        if limit is None or samples == 1:
            return True
        if isinstance(query, PointQuery):
            return samples <= limit
        grid = query.cropped().grid if isinstance(query, GridSubset) else query
        cells = [
            min(_count_cells(span), samples)
            for level, span in zip(self.levels, self._spans(grid), strict=True)
            if level.rows is None or grid is query  # else they are looked up where they are
        ]
        return max(grid.size) <= max(limit, _LEAST_SIDE) and 2 * sum(cells) <= 3 * limit

    def _spans(self, query: Query) -> list[Span]:
        """First and last row and column of each level that answer a query."""
        if isinstance(query, PointQuery):
            return [((0, h - 1), (0, w - 1)) for h, w in (level.shape for level in self.levels)]
        axes = (query.grid.rows, query.grid.cols)
        return [
            tuple(a.span(m, self.local_ensemble) for a, m in zip(axes, level.shape, strict=True))
            for level in self.levels
        ]

    # -- a block: samples whose cells and position terms are held at once

    def _answer(self, query: Query) -> Iterator[tuple[Place, Tensor]]:
        """Logits (B, K, ...) of a block, tile by tile, and where in it they belong."""
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
        """Answer a block as :meth:`_answer`, by the sums of the cells and terms of some taps."""
        terms, points = self.axis_terms(taps), isinstance(query, PointQuery)
        own = self._own_level(query)
        rows = Rows(
            self._touched_levels(query, own),
            () if points else terms,
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
            if self.coupled or points:
                for term in [self.joint_term(picked)] if self.coupled else terms:
                    x = x.add_(term.expand(*size, -1).reshape(x.shape))
            x = x.view(self.batch, -1, size[-1], x.shape[-1]).permute(0, 3, 1, 2)
            logits = self.decode(x).flatten(2).unflatten(2, size[1:])
            del x  # before the next tile is made
            yield place, logits

    def _own_level(self, query: Query) -> int | None:
        """The number of a level, not kept, whose cells are the samples of a block, or None."""
        if self.ensemble_outputs or not isinstance(query, GridQuery):
            return None
        for i, level in enumerate(self.levels):
            axes = zip((query.rows, query.cols), level.shape, strict=True)
            if level.rows is None and all(axis.on_cells(m) for axis, m in axes):
                return i
        return None

    def _numbers(self, query: Query, place: Place) -> list[Tensor]:
        """Row and column numbers in a grid, which broadcast to (1, *S); none of points."""
        if isinstance(query, PointQuery):
            return []
        return [number.to(self._weight.device) for number in query.numbers(place)]

    def _touched_levels(self, query: Query, own: int | None) -> list[BoundLevel]:
        """Cut levels to what answers a query, and bind them unless it has fewer samples than
        cells."""
        samples, levels = math.prod(query.size), []
        for i, (level, span) in enumerate(zip(self.levels, self._spans(query), strict=True)):
            if i == own:
                axes = zip((query.rows, query.cols), level.shape, strict=True)
                level = level.narrow(*(axis.span(m, ensemble=False) for axis, m in axes)).bind()
            elif level.rows is None or isinstance(query, GridQuery):
                part = level.narrow(*span)
                # Where it is sampled, a level on request is evaluated once a tap.
                taps = 4 if self.local_ensemble and isinstance(level.source, PointwiseLevel) else 1
                level = part.bind() if math.prod(part.size) <= samples * taps else part
            levels.append(level)
        return levels

    def _taps(self, query: Query) -> list[tuple[Taps, Taps]]:
        """Taps of rows and of columns of each level, (T, n) of the axes of a grid or (T, B, P) of
        points; offsets in single precision at least."""
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
        """Whether frequencies act on both axes together, so that no axis has terms of its own."""
        return self.positions[0][0].coupled

    def _full_precision(self) -> AbstractContextManager[Any]:
        """Turn autocast off, on devices that have it."""
        kind = self._weight.device.type
        available = torch.amp.is_autocast_available(kind)
        return torch.autocast(kind, enabled=False) if available else nullcontext()

    def axis_terms(self, taps: Sequence[tuple[Taps, Taps]]) -> list[Tensor]:
        """Position terms (*S, D) of the offsets along y and along x, over all levels; none where
        frequencies act on both together."""
        if self.coupled or not self.positions[0][0].num_features:
            return []
        terms = []
        with self._full_precision():
            for axis in (0, 1):
                features, columns = [], []
                for (encoding, weight), pair in zip(self.positions, taps, strict=True):
                    t = pair[axis]
                    feature = encoding.encode_axis(t.offsets, t.footprints, axis)  # (T, *S, f)
                    features.append(_weighted_sum(feature, t.weights))
                    columns += [weight[:, part] for part in encoding.axis_columns(axis)]
                terms.append(_linear(features, columns))
        return terms

    def joint_term(self, taps: Sequence[tuple[Taps, Taps]]) -> Tensor:
        """Position term (1 or B, *S, D) of coupled frequencies, over all levels."""
        features = []
        with self._full_precision():
            for (encoding, _), (ty, tx) in zip(self.positions, taps, strict=True):
                offsets = torch.broadcast_tensors(ty.offsets[:, None], tx.offsets[None])
                feature = encoding(offsets, (ty.footprints, tx.footprints)).flatten(0, 1)
                features.append(_weighted_sum(feature, pair_weights(ty, tx)))
            return _linear(features, [weight for _, weight in self.positions])


def _pick(taps: Sequence[tuple[Taps, Taps]], numbers: Sequence[Tensor]) -> list[tuple[Taps, Taps]]:
    """Taps that broadcast to (T, 1 or B, *S), of the samples that are numbered; of points, as they
    are."""
    return [tuple(map(Taps.pick, pair, numbers)) if numbers else pair for pair in taps]


def _count_cells(span: Span) -> int:
    return math.prod(last - first + 1 for first, last in span)


def _weighted_sum(feature: Tensor, weights: Tensor | None) -> Tensor:
    """(T, *S, f) features over their T taps: (*S, f)."""
    return feature[0] if weights is None else (feature * weights[..., None]).sum(0)


def _linear(features: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """Products of features (*S, f) with columns (D, f) of a weight, summed: (*S, D)."""
    joined = torch.cat(list(features), -1)
    return F.linear(joined, torch.cat(list(columns), 1).to(joined.dtype))
