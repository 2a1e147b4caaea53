"""The implicit feature alignment function (paper, Sec. 3.3, Eq. 4), evaluated without its
concatenation.

:mod:`ifa_d2.layers.first_layer` says how the first layer is taken apart;
:mod:`ifa_d2.layers.textbook` is the same function as the paper writes it.

Shape legend: B batch, C channels of a level, h x w cells of a level, L levels, H x W query grid, P
points, K classes.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .first_layer import FirstLayer
from .mlp import NormFactory, PointwiseMLP, apply_folded
from .position import PositionEncoding
from .queries import GridQuery, GridSubset, PointQuery, Query

# What the widest layer of one tile may take. On a CPU a tile should stay in the last-level cache,
# and below the 32 MiB from which the C library asks the system for fresh pages each time.
_TILE_BYTES_CPU = 16 << 20
_TILE_BYTES = 256 << 20
# Wider tiles would have few rows, and a tile's column terms are worth their cost only over several
# rows.
_MAX_TILE_COLS = 2048
# A level whose projection is at most this large is projected once, a larger one tile by tile.
_KEPT_BYTES = 48 << 20

Tile = tuple[slice, Query, tuple[slice, ...]]


class ImplicitAlignment(nn.Module):
    """Logits at any coordinates from features at several resolutions.

    Args:
        in_channels: channels C of each level.
        num_classes: K.
        hidden_dims: sizes of the MLP's hidden layers.
        encoding, num_frequencies, frequency_law, coupled_frequencies: see
            :class:`PositionEncoding`.
        unfold: a cell's features are those of its 3x3 neighbourhood (zeros beyond the border).
        local_ensemble: a query is answered by the four nearest cells of each level, their inputs
            (features, offsets and encodings) weighted bilinearly, so that the result is continuous
            in the coordinates. Without it the nearest cell answers alone.
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
        unfold: bool = False,
        local_ensemble: bool = False,
        norm: NormFactory | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if not in_channels or min(in_channels) < 1:
            raise ValueError(f"in_channels must be positive sizes, got {tuple(in_channels)}")
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.in_channels = tuple(in_channels)
        self.unfold = unfold
        self.local_ensemble = local_ensemble
        self.encodings = nn.ModuleList(
            PositionEncoding(
                encoding=encoding,
                num_frequencies=num_frequencies,
                frequency_law=frequency_law,
                coupled=coupled_frequencies,
            )
            for _ in in_channels
        )
        columns = sum(e.num_features for e in self.encodings)
        columns += sum(in_channels) * (9 if unfold else 1)
        self.mlp = PointwiseMLP(columns, hidden_dims, norm)
        self.predictor = nn.Conv2d(hidden_dims[-1], num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, levels: Sequence[Tensor], query: Query) -> Tensor:
        """Logits at the query.

        Args:
            levels: L tensors (B, C, h, w), all of the same image extent.
            query: where to evaluate.

        Returns:
            (B, K, H, W) for a grid, (B, K, P) for points and samples of a grid.

        Raises:
            ValueError: levels that do not fit the layer or each other.
        """
        self._check(levels, query)
        if not isinstance(query, GridQuery) and len(query) == 0:
            return levels[0].new_empty((len(levels[0]), self.predictor.out_channels, 0))
        if not torch.is_grad_enabled() and self.mlp.foldable:
            return self._forward_tiles(levels, query)
        layer = self.mlp.layers[0]
        x = self.first_layer(layer.weight, layer.bias)(levels, query)
        x = self.predictor(self.mlp.forward_tail(x))
        return x if isinstance(query, GridQuery) else x.flatten(2)

    def first_layer(self, weight: Tensor, bias: Tensor) -> FirstLayer:
        """The first layer taken apart, of given (or folded) weights (D, columns, 1, 1) and (D,)."""
        encodings, ensemble = list(self.encodings), self.local_ensemble
        return FirstLayer(weight, bias, encodings, self.in_channels, self.unfold, ensemble)

    def _check(self, levels: Sequence[Tensor], query: Query) -> None:
        shapes = [tuple(level.shape) for level in levels]
        if len(levels) != len(self.in_channels) or any(len(s) != 4 for s in shapes):
            raise ValueError(
                f"levels must be {len(self.in_channels)} tensors (B, C, h, w), got shapes {shapes}"
            )
        if tuple(s[1] for s in shapes) != self.in_channels:
            raise ValueError(f"levels must have channels {self.in_channels}, got shapes {shapes}")
        if len({s[0] for s in shapes}) != 1 or any(0 in s for s in shapes):
            raise ValueError(f"levels must be of one batch and not empty, got shapes {shapes}")
        if isinstance(query, PointQuery):
            images = query.coordinates.shape[0]
            if images != shapes[0][0]:
                raise ValueError(
                    f"coordinates must be of {shapes[0][0]} images as levels, got {images}"
                )

    # -- inference: norms folded, and the same steps tile by tile, so that memory is bounded

    def iter_tiles(
        self, levels: Sequence[Tensor], query: Query
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Logits piece by piece, for results that are larger than what may be held at once.

        Args:
            levels, query: as of :meth:`forward`.

        Yields:
            Where a piece belongs (images, then rows and columns, or points), and its logits
            (images, K, rows, columns) or (images, K, points). The pieces cover the query once.

        Raises:
            ValueError: as :meth:`forward`; or gradients are on, or a norm does not fold.
        """
        self._check(levels, query)
        if torch.is_grad_enabled() or not self.mlp.foldable:
            raise ValueError("tiles are for inference: eval mode and no gradients")
        weights = [layer.folded() for layer in self.mlp.layers]
        tail = [*weights[1:], (self.predictor.weight, self.predictor.bias)]
        first = self.first_layer(*weights[0])
        batch, grid = levels[0].shape[0], isinstance(query, GridQuery)
        projected = self._project_small(first, levels, batch * math.prod(query.size))
        for images, part, place in self._tiles(query, batch, weights[0][0]):
            kept = [None if p is None else p[images] for p in projected]
            x = apply_folded(first([level[images] for level in levels], part, kept), tail)
            yield (images, *place), x if grid else x.flatten(2)

    def _forward_tiles(self, levels: Sequence[Tensor], query: Query) -> Tensor:
        out: Tensor | None = None
        for (images, *place), logits in self.iter_tiles(levels, query):
            if out is None:
                out = logits.new_empty((levels[0].shape[0], logits.shape[1], *query.size))
            out[(images, slice(None), *place)] = logits
        assert out is not None
        return out

    def _project_small(
        self, first: FirstLayer, levels: Sequence[Tensor], num_queries: int
    ) -> list[Tensor | None]:
        """Projections of the levels that are worth keeping whole, None for the others."""
        out: list[Tensor | None] = []
        for i, level in enumerate(levels):
            cells = level[:, 0].numel()
            small = cells * len(first.bias) * level.element_size() <= _KEPT_BYTES
            keep = self.unfold or (small and cells <= num_queries)
            out.append(first.project(level, i) if keep else None)
        return out

    def _tiles(self, query: Query, batch: int, weight: Tensor) -> Iterator[Tile]:
        """Runs of images, parts of the query, and where in the output they belong."""
        tile_bytes = _TILE_BYTES_CPU if weight.device.type == "cpu" else _TILE_BYTES
        widest = max(m.out_channels for m in (*self.mlp.layers, self.predictor))
        budget = max(1, tile_bytes // (widest * weight.element_size()))
        if isinstance(query, GridQuery):
            height, width = query.size
            cols = min(width, budget, _MAX_TILE_COLS)
            rows = min(height, max(1, budget // cols))
            if 8 < rows < height:
                rows -= rows % 8  # tiles then end where coarser cells do, at the usual strides
            per_image = rows * cols
            places = [
                (slice(r, r + rows), slice(c, c + cols))
                for c in range(0, width, cols)
                for r in range(0, height, rows)
            ]
        else:
            per_image = max(1, min(len(query), budget))
            places = [(slice(i, i + per_image),) for i in range(0, len(query) or 1, per_image)]
        images = max(1, budget // per_image)
        for b in range(0, batch, images):
            run = slice(b, b + images)
            for place in places:
                if isinstance(query, GridQuery):
                    yield run, GridQuery(query.rows[place[0]], query.cols[place[1]]), place
                elif isinstance(query, GridSubset):
                    yield run, query[place[0]], place
                else:
                    yield run, PointQuery(query.coordinates[run, place[0]]), place
