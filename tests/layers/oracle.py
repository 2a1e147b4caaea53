"""The alignment function of the paper (Sec. 3.3, Eq. 1 to 4), written plainly, a query at a time.

It shares nothing with the package but the parameters of the module it is given.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from detectron2.layers.batch_norm import LayerNorm
from torch import Tensor

Coordinate = Fraction | float


def grid_coordinates(begin: int, end: int, size: int, extent: int) -> list[Fraction]:
    """Centres of ``size`` equal cells over the pixels begin..end of ``extent``, exactly."""
    return [(begin + Fraction(2 * j + 1, 2 * size) * (end - begin)) / extent for j in range(size)]


def _answers(y: Coordinate, m: int, ensemble: bool) -> list[tuple[int, float, float]]:
    """Cells of one axis that answer: (cell, offset in half cells, weight)."""

    def clamp(i: int) -> int:
        return min(max(i, 0), m - 1)

    def offset(i: int) -> float:
        return float((y * m - i - (Fraction(1, 2) if isinstance(y, Fraction) else 0.5)) * 2)

    if not ensemble:
        i = clamp(math.floor(y * m))
        return [(i, offset(i), 1.0)]
    i = clamp(math.floor(y * m - (Fraction(1, 2) if isinstance(y, Fraction) else 0.5)))
    weight = min(max(offset(i) / 2, 0.0), 1.0)
    return [(i, offset(i), 1 - weight), (clamp(i + 1), offset(clamp(i + 1)), weight)]


def _encode(
    encoding: torch.nn.Module, dy: float, dx: float, widths: tuple[float, float], like: Tensor
) -> Tensor:
    """[delta, sin, cos] of the offset, in the order of the authors' code; the width of the sample
    last, and the sines and cosines averaged over it, where the encoding says so."""
    if encoding.encoding == "none":
        return like.new_zeros(0)
    values = [like.new_tensor([dy, dx])]
    if encoding.frequencies is not None:
        w = encoding.frequencies
        if encoding.coupled:
            angles = w[:, 0] * dy + w[:, 1] * dx
        else:
            angles = torch.cat([w[:, 0] * dy, w[:, 1] * dx])
        fading = 1.0
        if encoding.integrated:
            cy, cx = widths
            if encoding.coupled:
                fading = _sinc(w[:, 0] * cy / 2) * _sinc(w[:, 1] * cx / 2)
            else:
                fading = torch.cat([_sinc(w[:, 0] * cy / 2), _sinc(w[:, 1] * cx / 2)])
        values += [torch.sin(angles) * fading] if encoding.encoding != "cosine" else []
        values += [torch.cos(angles) * fading] if encoding.encoding != "sine" else []
    if encoding.cell:
        values.append(like.new_tensor(widths))
    return torch.cat(values)


def _sinc(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), torch.sin(x) / torch.where(x == 0, 1.0, x))


def _feature(level: Tensor, i: int, j: int, unfold: bool) -> Tensor:
    """(C,) feature of a cell, or (9 C,) of its neighbourhood, channel by channel."""
    if not unfold:
        return level[:, i, j]
    padded = torch.nn.functional.pad(level, (1, 1, 1, 1))
    return padded[:, i : i + 3, j : j + 3].reshape(-1)


def first_inputs(
    module,
    levels: Sequence[Tensor],
    b: int,
    y: Coordinate,
    x: Coordinate,
    footprint: tuple[float, float],
) -> list[tuple[float, Tensor]]:
    """What the MLP is given at one coordinate of image ``b``, all levels concatenated: one input of
    weight 1, or, where outputs are ensembled, one for each cell of the first level that answers."""
    apart: list[tuple[float, Tensor]] = []
    rest = []
    for number, (level, encoding) in enumerate(zip(levels, module.encodings, strict=True)):
        widths = (2 * level.shape[2] * footprint[0], 2 * level.shape[3] * footprint[1])
        values = []
        for i, dy, wy in _answers(y, level.shape[2], module.local_ensemble):
            for j, dx, wx in _answers(x, level.shape[3], module.local_ensemble):
                feature = _feature(level[b], i, j, module.unfold)
                parts = [_encode(encoding, dy, dx, widths, feature), feature]
                parts += [float(dy) * feature, float(dx) * feature] if module.feature_slopes else []
                values.append((wy * wx, torch.cat(parts)))
        if number == 0 and module.ensemble_outputs:
            apart = values
        else:
            rest.append(sum(weight * value for weight, value in values))
    if not module.ensemble_outputs:
        return [(1.0, torch.cat(rest))]
    return [(weight, torch.cat([value, *rest])) for weight, value in apart]


def oracle(
    module,
    levels: Sequence[Tensor],
    coordinates: Sequence[Sequence[tuple[Coordinate, Coordinate]]],
    footprints: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """Logits (B, P, K) at P coordinates (y, x) of each of B images, whose samples have the widths
    ``footprints`` of the axes."""
    footprints = footprints or [(0.0, 0.0)] * len(coordinates)
    inputs = [
        first_inputs(module, levels, b, *yx, footprints[b])
        for b, row in enumerate(coordinates)
        for yx in row
    ]
    # One at a time: in training, a norm takes the statistics of each corner by itself.
    corners = [
        torch.tensor([weight for weight, _ in group], dtype=levels[0].dtype)[:, None]
        * _decode(module, torch.stack([value for _, value in group]))
        for group in zip(*inputs, strict=True)
    ]
    return sum(corners).unflatten(0, (len(coordinates), -1))


def _decode(module, x: Tensor) -> Tensor:
    """Logits (N, K) of inputs (N, columns)."""
    for layer in module.mlp.layers:
        x = x @ layer.weight[:, :, 0, 0].t() + layer.bias
        norm = layer.norm
        if isinstance(norm, torch.nn.GroupNorm):
            groups = x.unflatten(1, (norm.num_groups, -1))
            mean, var = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
            x = ((groups - mean) / torch.sqrt(var + norm.eps)).flatten(1)
        elif isinstance(norm, LayerNorm):
            var = x.var(1, unbiased=False, keepdim=True)
            x = (x - x.mean(1, keepdim=True)) / torch.sqrt(var + norm.eps)
        elif norm is not None and norm.training:
            x = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + norm.eps)
        elif norm is not None:
            x = (x - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps)
        if norm is not None:
            x = x * norm.weight + norm.bias
        x = torch.relu(x)
    return x @ module.predictor.weight[:, :, 0, 0].t() + module.predictor.bias
