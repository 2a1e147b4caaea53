"""The implicit feature alignment function (paper, Sec. 3.3, Eq. 4).

The paper concatenates, over levels, the nearest feature z_i and the encoding psi_i of the offset to
its cell, and passes them to an MLP. The MLP's first layer is linear, so it splits by its columns:

    W [psi_1, z_1, psi_2, z_2, ...] + b  =  sum_i Wz_i z_i  +  sum_i Wp_i psi_i  +  b

``Wz_i z_i`` does not depend on the query: :meth:`ImplicitAlignment.bind` takes it once a cell. What
is left, a :class:`BoundAlignment`, is a function of coordinates: it looks up these rows, adds
the position terms (on a grid, a vector for each row and one for each column), and passes the sum to
the rest of the MLP. :mod:`ifa_d2.layers.textbook` is the same function as the paper writes it.

Shape legend: B batch, C channels and h x w cells of a level, L levels, S shape of a query, T cells
that answer along one axis, D channels of the first layer, K classes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .bound import BoundAlignment
from .levels import BoundLevel, Level
from .mlp import NormFactory, PointwiseMLP, apply_tail
from .position import build_encodings, count_columns
from .queries import Query

# What the widest layer of a tile may take. On a CPU a tile should stay in the last-level cache, and
# below the 32 MiB from which the C library asks the system for fresh pages each time.
TILE_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
# A level whose cells take no more than this after the first layer is bound whole, and kept.
KEPT_BYTES = 4 << 20


class ImplicitAlignment(nn.Module):
    """Map features of several resolutions to logits at any coordinates.

    Args:
        in_channels: channels C of each level.
        num_classes: number of classes K.
        hidden_dims: sizes of the MLP's hidden layers; () is a linear classifier.
        encoding: of offsets (the paper's Table 4), "none", "coord", "sine", "cosine", "fixed" or
            "learned", see :class:`ifa_d2.layers.PositionEncoding`.
        num_frequencies: frequencies of the encoding, an axis.
        frequency_law: of their first values, "pow2" (1 to 64, as in the authors' code) or
            "2exp" (the paper's text).
        coupled_frequencies: a frequency acts on both axes together; needs the "learned" encoding.
        integrated_encoding: sines and cosines are averaged over the width of a query's sample.
        cell_decoding: the width of a query's sample is an input, in half cells.
        unfold: a cell's features are those of its 3x3 neighbourhood (zeros beyond the border).
        local_ensemble: a query reads the four nearest cells of each level, their inputs
            (features, offsets and encodings) weighted bilinearly, so that the result is continuous
            in the coordinates. Without it the nearest cell is read alone.
        ensemble_outputs: with the local ensemble, the four cells of the first level are decoded
            apart and their logits weighted (LIIF's order, https://arxiv.org/abs/2012.09161,
            Eq. 4), at four times the cost of the MLP; those of the other levels are weighted
            before, so that the result stays continuous.
        feature_slopes: a cell's features have slopes: their products with the offset along y and
            along x, dy z and dx z, are inputs too. Weighted bilinearly, an encoding adds the same
            at a place in any cell; a slope is the cell's own (not in the paper).
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
        feature_slopes: bool = False,
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
        self.feature_slopes = feature_slopes
        self.encodings = build_encodings(
            len(in_channels),
            encoding=encoding,
            num_frequencies=num_frequencies,
            frequency_law=frequency_law,
            coupled_frequencies=coupled_frequencies,
            integrated=integrated_encoding,
            cell=cell_decoding,
        )
        columns = count_columns(
            self.encodings, in_channels, unfold=unfold, feature_slopes=feature_slopes
        )
        self.mlp = PointwiseMLP(columns, hidden_dims, norm)
        self.predictor = nn.Conv2d([columns, *hidden_dims][-1], num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, levels: Sequence[Level], query: Query) -> Tensor:
        """Compute logits (B, K, *S) at a query. See :meth:`bind` for levels and errors."""
        return self.bind(levels)(query)

    def bind(
        self,
        levels: Sequence[Level],
        *,
        kept_bytes: int = KEPT_BYTES,
        tile_bytes: int | None = None,
    ) -> BoundAlignment:
        """Bind levels to the first layer, to look them up at any coordinates.

        Without gradients, and where the norms let each query be answered by itself (batch norm in
        eval mode, group or layer norm, or none), norms are folded into the layers and queries are
        answered tile by tile, so that memory is bounded.

        Args:
            levels: L tensors (B, C, h, w) or :class:`PointwiseLevel`, all of the same image
                extent.
            kept_bytes: a level that takes no more than this after the first layer is kept so.
            tile_bytes: what the widest layer of a tile may take; None is by the device.

        Raises:
            ValueError: levels that do not fit the layer or each other.
        """
        self._check(levels)
        return self.bound(levels, kept_bytes, tile_bytes)

    def bound(
        self, levels: Sequence[Level], kept_bytes: int = KEPT_BYTES, tile_bytes: int | None = None
    ) -> BoundAlignment:
        """Bind levels without checking them, as tracers need it, to which sizes are symbols."""
        modules = [*self.mlp.layers, self.predictor]
        weight, bias, tile_queries = modules[0].weight, modules[0].bias, None
        decode: Callable[[Tensor], Tensor] = self._decode
        if self.mlp.pointwise and not torch.is_grad_enabled():
            weight, bias, tail = self._folded()
            decode = partial(apply_tail, tail=tail)
            widest = max(module.out_channels for module in modules)
            limit = tile_bytes or TILE_BYTES.get(weight.device.type, TILE_BYTES["cpu"])
            tile_queries = max(1, limit // (widest * weight.element_size()))
        k, terms = 3 if self.unfold else 1, 3 if self.feature_slopes else 1
        sizes = zip((e.num_features for e in self.encodings), self.in_channels, strict=True)
        sizes = [size for p, c in sizes for size in (p, terms * c * k * k)]
        columns = weight[:, :, 0, 0].split(sizes, dim=1)
        biases = [bias, *[None] * (len(levels) - 1)]
        return BoundAlignment(
            levels=[
                BoundLevel(level, part.unflatten(1, (-1, k, k)), b, tuple(level.shape[2:]), terms)
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
        """Map pre-activations (B, D, H, W) of the first layer to logits (B, K, H, W)."""
        return self.mlp.forward_tail(x, self.predictor) if self.mlp.layers else x

    def _folded(self) -> tuple[Tensor, Tensor, list[tuple[nn.Module | None, Tensor, Tensor]]]:
        """Weight and bias of the first layer, and the layers after it, with norms folded in.

        A norm that cannot be folded stays with the layer after it.
        """
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
