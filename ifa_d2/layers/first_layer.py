"""The first layer of the alignment MLP, taken apart by its columns.

Its product with a level's features does not depend on the query: it is taken once a feature cell,
at the level's own resolution, and looked up afterwards. Its product with a position encoding
depends on the row and on the column of a query apart (unless frequencies are coupled): on a grid
that is a vector for each row and one for each column.

Shape legend: B batch, C channels of a level, h x w cells of a level, H x W query grid, P points, D
channels of the first hidden layer, T taps an axis, S any shape of queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .lookup import Lookup, add_lookups_, sum_lookups
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

    def project(self, level: Tensor, i: int) -> Tensor:
        """(B, C, h, w) to (B, D, h, w). The first level carries the bias: its weights sum to 1."""
        weight = self.columns(i)[1]
        level = level.contiguous(memory_format=torch.channels_last)
        return F.conv2d(level, weight, self.bias if i == 0 else None, padding=weight.shape[-1] // 2)

    def __call__(
        self, levels: Sequence[Tensor], query: Query, projected: Sequence[Tensor | None] = ()
    ) -> Tensor:
        """Pre-activations: (B, D, H, W) for a grid, (B, D, 1, P) for points and subsets.

        Args:
            levels: (B, C, h, w) each.
            query: where to evaluate.
            projected: results of :meth:`project` to be used instead of a level's features.
        """
        projected = projected or [None] * len(levels)
        grid = isinstance(query, GridQuery)
        lookups, direct = (self._grid if grid else self._scattered)(levels, query, projected)
        size = query.size if grid else (1, len(query))
        if direct and lookups:
            total = add_lookups_(direct[0].to(lookups[0].table.dtype), lookups)
        elif lookups:
            total = sum_lookups(lookups).view(len(levels[0]), *size, len(self.bias))
            total = total.permute(0, 3, 1, 2)
        else:
            total = direct[0]
        for term in direct[1:]:
            total = total + term.to(total.dtype)
        return total

    # -- the two kinds of query: rows to look up, and maps to add as they are

    def _grid(
        self, levels: Sequence[Tensor], query: GridQuery, projected: Sequence[Tensor | None]
    ) -> tuple[list[Lookup], list[Tensor]]:
        lookups: list[Lookup] = []
        direct: list[Tensor] = []
        taps = self._grid_taps(query, levels)
        for i, (level, whole, (ty, tx)) in enumerate(zip(levels, projected, taps, strict=True)):
            if self.unfold and whole is None:
                whole = self.project(level, i)  # a neighbourhood does not survive being cut out
            identity = ty.identity and tx.identity
            needed = slice(0, 1 if identity else None)  # the second tap's weight is then 0
            source, cell_y = _restrict(level if whole is None else whole, ty.cells[needed], 2)
            source, cell_x = _restrict(source, tx.cells[needed], 3)
            table = self.project(source, i) if whole is None else source
            if identity:
                direct.append(table if whole is None else table.clone())  # to be added to
                continue
            ty = replace(ty, cells=cell_y).unsqueeze(1, -1)  # (T, 1, H, 1)
            tx = replace(tx, cells=cell_x).unsqueeze(1, 1)  # (T, 1, 1, W)
            lookups.append(_lookup(table, ty, tx))
        if self.encodings[0].coupled:
            joint = self.joint_term([(ty.unsqueeze(-1), tx.unsqueeze(-2)) for ty, tx in taps])
            direct.append(joint.permute(2, 0, 1).expand(len(levels[0]), -1, -1, -1))
        elif self.encodings[0].num_features:
            index = torch.cartesian_prod(*(torch.arange(n) for n in query.size))
            lookups.append(self._grid_position(taps, index, levels[0]))
        return lookups, direct

    def _scattered(
        self,
        levels: Sequence[Tensor],
        query: PointQuery | GridSubset,
        projected: Sequence[Tensor | None],
    ) -> tuple[list[Lookup], list[Tensor]]:
        lookups: list[Lookup] = []
        direct: list[Tensor] = []
        if isinstance(query, GridSubset):
            axes = self._grid_taps(query.grid, levels)
            y, x = query.index[None].unbind(-1)  # (1, P): the same of all images
            taps = [(ty.select(y), tx.select(x)) for ty, tx in axes]
        else:
            y, x = query.coordinates.unbind(-1)  # (B, P)
            taps = [
                tuple(coordinate_taps(c, n, self.ensemble) for c, n in ((y, h), (x, w)))
                for h, w in (level.shape[2:] for level in levels)
            ]
        batch, points = len(levels[0]), len(query)
        for i, (level, whole, (ty, tx)) in enumerate(zip(levels, projected, taps, strict=True)):
            if whole is None and (self.unfold or level[0, 0].numel() <= points):
                whole = self.project(level, i)
            if whole is not None:
                lookups.append(_lookup(whole, ty, tx))
                continue
            rows = sum_lookups([_lookup(level, ty, tx)])  # fewer points than cells
            rows = rows.view(batch, 1, points, level.shape[1]).permute(0, 3, 1, 2)
            direct.append(self.project(rows, i))
        if self.encodings[0].coupled:
            direct.append(_as_map(self.joint_term(taps), batch))
        elif isinstance(query, GridSubset) and self.encodings[0].num_features:
            lookups.append(self._grid_position(axes, query.index, levels[0]))
        elif self.encodings[0].num_features:
            term = self.axis_term([ty for ty, _ in taps], 0)
            direct.append(_as_map(term + self.axis_term([tx for _, tx in taps], 1), batch))
        return lookups, direct

    def _grid_taps(self, query: GridQuery, levels: Sequence[Tensor]) -> list[tuple[Taps, Taps]]:
        sizes = [level.shape[2:] for level in levels]
        return [
            (query.rows.taps(h, self.ensemble), query.cols.taps(w, self.ensemble)) for h, w in sizes
        ]

    def _grid_position(
        self, taps: Sequence[tuple[Taps, Taps]], index: Tensor, like: Tensor
    ) -> Lookup:
        """The position terms of samples (P, 2) of a grid, by a term a row and a term a column."""
        rows = self.axis_term([ty for ty, _ in taps], 0)  # (H, D)
        cols = self.axis_term([tx for _, tx in taps], 1)  # (W, D)
        index = index.to(like.device) + torch.tensor([0, len(rows)], device=like.device)
        dtype = like.dtype
        if torch.is_autocast_enabled(like.device.type):
            dtype = torch.get_autocast_dtype(like.device.type)
        return Lookup(torch.cat([rows, cols]).to(dtype), index.repeat(len(like), 1))

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
                features.append(_weighted_sum(feature, _joint_weights(ty, tx)))
                weights.append(self.columns(i)[0])
            return F.linear(torch.cat(features, -1), torch.cat(weights, 1).to(self._dtype))


def _joint_weights(ty: Taps, tx: Taps) -> Tensor | None:
    """(T * T, *S) weights of pairs of taps, in row-major order."""
    if ty.weights is None or tx.weights is None:
        return None
    return (ty.weights[:, None] * tx.weights[None]).flatten(0, 1)


def _weighted_sum(feature: Tensor, weights: Tensor | None) -> Tensor:
    """(T, *S, f) features over their T taps: (*S, f)."""
    return feature[0] if weights is None else (feature * weights[..., None]).sum(0)


def _as_map(term: Tensor, batch: int) -> Tensor:
    """(B or 1, P, D) to (B, D, 1, P)."""
    return term.permute(0, 2, 1)[:, :, None].expand(batch, -1, -1, -1)


def _rows(level: Tensor) -> Tensor:
    """(B, C, h, w) to (B * h * w, C), a view where channels are last in memory."""
    return level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])


def _restrict(level: Tensor, cells: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The part of a level that the cells (T, n) of one axis touch, and the cells counted in it."""
    low, high = int(cells.min()), int(cells.max())
    if high - low < cells.numel():
        return level.narrow(dim, low, high - low + 1), cells - low
    chosen = level.index_select(dim, cells.flatten().to(level.device))
    return chosen, torch.arange(cells.numel()).view(cells.shape)


def _lookup(level: Tensor, ty: Taps, tx: Taps) -> Lookup:
    """The lookup of pairs of taps that broadcast to (T, 1 or B, *S) in a level (B, C, h, w)."""
    batch, _, h, w = level.shape
    index = (ty.cells[:, None] * w + tx.cells[None]).flatten(0, 1).to(level.device)
    shift = torch.arange(batch, device=level.device) * (h * w)
    index = index + shift.view(-1, *[1] * (index.dim() - 2))  # (T * T, B, *S)
    weights = _joint_weights(ty, tx)
    if weights is not None:
        weights = weights.to(level.device, level.dtype).expand(index.shape)
        weights = weights.flatten(1).t().contiguous()
    return Lookup(_rows(level), index.flatten(1).t().contiguous(), weights)
