"""The alignment function on a grid, in tensor operations that a tracer can follow.

:class:`ImplicitAlignment` decides in Python, from sizes, which cells to project and which tiles to
make; a recorded program would hold those decisions for the one size it was recorded at. Here the
sizes of levels and grid only ever enter tensor arithmetic, so that they can be symbols
(``torch.export``, ONNX) or traced scalars (``torch.jit.trace``).

Shape legend: B batch, C channels of a level, h x w cells of a level, H x W query grid, n queries
along one axis, m cells along one axis, T taps an axis, D channels of the first hidden layer, K
classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment import ImplicitAlignment
from .mlp import PointwiseLayer
from .queries import Length, Taps, rational_taps


class TraceableDecoder(nn.Module):
    """Decode an :class:`ImplicitAlignment` on a grid over the top left of its extent.

    It holds the layer's weights as they are now, norms folded where they can be, and is for
    inference alone. The whole grid is decoded at once, so that memory grows with it.

    Args:
        alignment: the layer, in eval mode; it is not changed.

    Raises:
        ValueError: a layer in training mode, or one that ensembles outputs.
    """

    def __init__(self, alignment: ImplicitAlignment) -> None:
        super().__init__()
        if alignment.training:
            raise ValueError("alignment must be in eval mode, got one in training mode")
        if alignment.ensemble_outputs:
            raise ValueError("ensemble_outputs must be False for a program, got True")
        self.alignment = copy.deepcopy(alignment).requires_grad_(False)
        for layer in self.alignment.mlp.layers:
            weight, bias, layer.norm = layer.folded()
            layer.weight, layer.bias = _frozen(weight), _frozen(bias)

    @torch.no_grad()
    def forward(
        self,
        levels: Sequence[Tensor],
        size: tuple[Length, Length],
        inside: tuple[Length, Length],
        extent: tuple[Length, Length],
    ) -> Tensor:
        """Compute logits at the centres of equal cells that cover a picture.

        Args:
            levels: (B, C, h, w) each, of one extent.
            size: (height, width) of the grid, H and W.
            inside: (height, width) of the picture, in pixels.
            extent: (height, width) of the levels' extent in pixels: the picture's with its
                padding, which lies at the bottom and right.

        Returns:
            (B, K, H, W) logits.
        """
        bound = self.alignment.bound(levels)
        taps: list[tuple[Taps, Taps]] = []
        total: Tensor | None = None
        for level, part in zip(levels, bound.levels, strict=True):
            ty, tx = (
                span_taps(*lengths, ensemble=self.alignment.local_ensemble, device=levels[0].device)
                for lengths in zip(size, inside, extent, level.shape[2:], strict=True)
            )
            weighted = [(ty, tx), (_sloped(ty), tx), (ty, _sloped(tx))][: part.terms]
            products = part.product().chunk(part.terms, dim=1)
            for product, (along_y, along_x) in zip(products, weighted, strict=True):
                term = _take(_take(product, along_y, 2), along_x, 3)  # (B, D, H, W)
                total = term if total is None else total.add_(term)
            taps.append((ty, tx))
        assert total is not None
        if bound.coupled:
            pairs = [(ty.unsqueeze(-1), tx.unsqueeze(-2)) for ty, tx in taps]
            total.add_(bound.joint_term(pairs).permute(2, 0, 1))
        for term, dim in zip(bound.axis_terms(taps), (-1, -2), strict=False):
            total.add_(term.t().unsqueeze(dim))
        if not self.alignment.mlp.layers:
            return total
        first, *others = self.alignment.mlp.layers
        total = _activate(first, total)
        for layer in others:
            total = _activate(layer, F.conv2d(total, layer.weight, layer.bias))
        return self.alignment.predictor(total)


def span_taps(
    n: Length,
    length: Length,
    extent: Length,
    m: Length,
    *,
    ensemble: bool,
    device: torch.device | None = None,
) -> Taps:
    """Compute taps of the centres of ``n`` equal parts of pixels ``0..length``.

    Query ``j`` lies at ``(2 j + 1) length / (2 n extent)``; its cell comes from integers alone. Its
    footprint is a part, and a pixel at least.

    Args:
        n: number of queries.
        length, extent: pixels that the queries cover, out of those that the cells cover.
        m: number of cells.
        ensemble: the two nearest cells, with weights, instead of the nearest.
        device: of the result.
    """
    den = 2 * n * extent
    scaled = (2 * torch.arange(n, device=device) + 1) * (length * m)  # (n,), in cells times den
    taps = rational_taps(scaled, den, m, ensemble)
    one = torch.ones((), dtype=torch.float64, device=device)  # as sizes may be symbols
    return replace(taps, footprints=torch.maximum(one * length / n, one) * (2 * m) / extent)


def _sloped(taps: Taps) -> Taps:
    """Weight cells by the offsets from them."""
    weights = taps.offsets if taps.weights is None else taps.weights * taps.offsets
    return replace(taps, weights=weights)


def _take(level: Tensor, taps: Taps, dim: int) -> Tensor:
    """Interpolate a level (B, D, h, w) along one axis, at its taps."""
    parts = [level.index_select(dim, cells) for cells in taps.cells.unbind()]
    if taps.weights is None:
        return parts[0]
    weights = taps.weights.to(level.dtype)
    weights = weights[:, :, None] if dim == 2 else weights
    lower, *upper = (part * weight for part, weight in zip(parts, weights.unbind(), strict=True))
    return lower + upper[0] if upper else lower


def _activate(layer: PointwiseLayer, x: Tensor) -> Tensor:
    """Apply norm and ReLU; torch's own GroupNorm would read the number of queries."""
    norm = layer.norm
    if not isinstance(norm, nn.GroupNorm):
        return layer.activate(x)
    groups = x.unflatten(1, (norm.num_groups, -1))
    var, mean = torch.var_mean(groups, dim=2, correction=0, keepdim=True)
    x = ((groups - mean) * (var + norm.eps).rsqrt()).flatten(1, 2)
    if norm.affine:
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    return F.relu_(x)


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=False)
