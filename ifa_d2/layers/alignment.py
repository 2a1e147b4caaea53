"""The implicit feature alignment function (paper, Sec. 3.3, Eq. 4), evaluated without its
concatenation.

:mod:`ifa_d2.layers.first_layer` says how the first layer is taken apart, and
:mod:`ifa_d2.layers.tile_decoder` decodes tile by tile at inference. :mod:`ifa_d2.layers.textbook`
is the same function as the paper writes it.

Shape legend: B batch, C channels of a level, h x w cells of a level, L levels, H x W query grid, P
points, K classes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .compiled import compile_finish
from .first_layer import FirstLayer
from .levels import Level, PointwiseLevel, Projected, materialize
from .lookup import Terms
from .mlp import CachingModule, NormFactory, PointwiseMLP, Tail, apply_tail
from .position import build_encodings, count_columns
from .queries import GridQuery, PointQuery, Query
from .tile_decoder import TileDecoder
from .tiling import keeps_whole, tile_queries


class ImplicitAlignment(CachingModule):
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
        self._program: Callable[[Terms, Tail], Tensor] | None = None

    def forward(
        self,
        levels: Sequence[Level],
        query: Query,
        projected: Sequence[Projected] | None = None,
    ) -> Tensor:
        """Logits at the query.

        Args:
            levels: L tensors (B, C, h, w), or what is projected to them
                (:class:`PointwiseLevel`), all of the same image extent.
            query: where to evaluate.
            projected: at inference, see :meth:`iter_tiles`.

        Returns:
            (B, K, H, W) for a grid, (B, K, P) for points and samples of a grid.

        Raises:
            ValueError: levels that do not fit the layer or each other.
        """
        self._check(levels, query)
        if not isinstance(query, GridQuery) and len(query) == 0:
            return self.predictor.weight.new_empty((len(levels[0]), self.predictor.out_channels, 0))
        if not torch.is_grad_enabled() and self.mlp.pointwise:
            return self._forward_tiles(levels, query, projected)
        layer = [*self.mlp.layers, self.predictor][0]
        levels = [materialize(x) if isinstance(x, PointwiseLevel) else x for x in levels]
        first = self.first_layer(layer.weight, layer.bias)
        out: Tensor | None = None
        for corner in first.corners(self.ensemble_outputs):
            x = corner(levels, query)
            if self.mlp.layers:
                x = self.predictor(self.mlp.forward_tail(x))
            x = x if isinstance(query, GridQuery) else x.flatten(2)
            if self.ensemble_outputs:
                x = x * corner.share(levels[0], query).to(x.dtype)
            out = x if out is None else out + x
        assert out is not None
        return out

    def compile(self, **options: Any) -> None:
        """Compile what each tile passes through at inference, in place.

        Sizes are symbols to the compiled program: it is made once for grids, once for the features'
        own grid and once for points, not for each size. Which cells a query asks stays in Python.

        Args:
            options: of ``torch.compile``, such as ``mode`` or ``backend``.
        """
        self._program = compile_finish(**options)

    def first_layer(self, weight: Tensor, bias: Tensor) -> FirstLayer:
        """The first layer taken apart, of given (or folded) weights (D, columns, 1, 1) and (D,)."""
        return FirstLayer(
            weight=weight,
            bias=bias,
            encodings=list(self.encodings),
            in_channels=self.in_channels,
            unfold=self.unfold,
            ensemble=self.local_ensemble,
        )

    def _check(self, levels: Sequence[Level], query: Query) -> None:
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

    def project(self, levels: Sequence[Level], grid: GridQuery) -> list[Projected]:
        """Project the levels as :meth:`iter_tiles` needs them for a grid, any part or coarser grid
        of it: to be held where many of them are asked.

        Args:
            levels: as of :meth:`forward`.
            grid: of GridAxis rows and columns.

        Raises:
            ValueError: as :meth:`iter_tiles`.
        """
        self._check_inference(levels, grid)
        first = self._folded()[0]
        return first.project_touched(levels, first.positions(levels, grid))

    def iter_tiles(
        self,
        levels: Sequence[Level],
        query: Query,
        projected: Sequence[Projected] | None = None,
    ) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Logits piece by piece, for results that are larger than what may be held at once.

        Args:
            levels, query: as of :meth:`forward`.
            projected: from :meth:`project`, of a grid that covers the query.

        Yields:
            Where a piece belongs (images, then rows and columns, or points), and its logits
            (images, K, rows, columns) or (images, K, points). The pieces cover the query once.

        Raises:
            ValueError: as :meth:`forward`; or gradients are on, or a norm does not fold.
        """
        self._check_inference(levels, query)
        first, tail = self._folded()
        batch, width = levels[0].shape[0], len(first.bias)
        asked = batch * math.prod(query.size)
        kept = projected or [
            Projected(first.project(level, i))
            if self.unfold or keeps_whole(level, width, asked)
            else None
            for i, level in enumerate(levels)
        ]
        widest = max(m.out_channels for m in (*self.mlp.layers, self.predictor))
        budget = tile_queries(widest, first.weight)
        finish = partial(self._program or _finish, tail=tail)
        decoders = [
            TileDecoder(corner, finish, levels, kept, budget)
            for corner in first.corners(self.ensemble_outputs)
        ]
        if not self.ensemble_outputs:
            yield from decoders[0].tiles(query)
            return
        shares = [
            decoder.first.share(levels[0], query).expand(batch, 1, *query.size)
            for decoder in decoders
        ]
        for tiles in zip(*(decoder.tiles(query) for decoder in decoders), strict=True):
            images, *place = tiles[0][0]
            yield (
                tiles[0][0],
                sum(
                    logits * share[(images, slice(None), *place)].to(logits.dtype)
                    for (_, logits), share in zip(tiles, shares, strict=True)
                ),
            )

    def _check_inference(self, levels: Sequence[Level], query: Query) -> None:
        self._check(levels, query)
        if torch.is_grad_enabled():
            raise ValueError("levels must be decoded in tiles without gradients: torch.no_grad()")
        for layer in self.mlp.layers:
            if not layer.pointwise:
                mode = "training" if layer.norm.training else "eval"
                raise ValueError(
                    "norm must be one of each query alone for tiles to be decoded: batch norm in "
                    f"eval mode, group or layer norm, or none; got {layer.norm} in {mode} mode"
                )

    def _folded(self) -> tuple[FirstLayer, Tail]:
        """The first layer and the others, norms folded where they can be: once, until a weight
        changes."""

        def fold() -> tuple[FirstLayer, Tail]:
            if not self.mlp.layers:
                return self.first_layer(self.predictor.weight, self.predictor.bias), []
            weight, bias, norm = self.mlp.layers[0].folded()
            first, tail = self.first_layer(weight, bias), []
            for layer in self.mlp.layers[1:]:
                weight, bias, next_norm = layer.folded()
                tail.append((norm, weight, bias))
                norm = next_norm
            return first, [*tail, (norm, self.predictor.weight, self.predictor.bias)]

        return self._derived.get([*self.parameters(), *self.buffers()], fold)

    def _forward_tiles(
        self,
        levels: Sequence[Level],
        query: Query,
        projected: Sequence[Projected] | None = None,
    ) -> Tensor:
        out: Tensor | None = None
        for (images, *place), logits in self.iter_tiles(levels, query, projected):
            if out is None:
                out = logits.new_empty((levels[0].shape[0], logits.shape[1], *query.size))
            out[(images, slice(None), *place)] = logits
        assert out is not None
        return out


def _finish(terms: Terms, tail: Tail) -> Tensor:
    """From the first layer's terms to logits (B, K, H, W)."""
    return apply_tail(terms.sum(), tail)
