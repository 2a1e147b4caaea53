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


def _encode(encoding: torch.nn.Module, dy: float, dx: float, like: Tensor) -> Tensor:
    """[delta, sin, cos] of the offset, in the order of the authors' code."""
    if encoding.encoding == "none":
        return like.new_zeros(0)
    values = [like.new_tensor([dy, dx])]
    if encoding.frequencies is not None:
        w = encoding.frequencies
        if encoding.coupled:
            angles = w[:, 0] * dy + w[:, 1] * dx
        else:
            angles = torch.cat([w[:, 0] * dy, w[:, 1] * dx])
        values += [torch.sin(angles)] if encoding.encoding != "cosine" else []
        values += [torch.cos(angles)] if encoding.encoding != "sine" else []
    return torch.cat(values)


def _feature(level: Tensor, i: int, j: int, unfold: bool) -> Tensor:
    """(C,) feature of a cell, or (9 C,) of its neighbourhood, channel by channel."""
    if not unfold:
        return level[:, i, j]
    padded = torch.nn.functional.pad(level, (1, 1, 1, 1))
    return padded[:, i : i + 3, j : j + 3].reshape(-1)


def first_input(module, levels: Sequence[Tensor], b: int, y: Coordinate, x: Coordinate) -> Tensor:
    """What the MLP is given at one coordinate of image ``b``: all levels, concatenated."""
    parts = []
    for level, encoding in zip(levels, module.encodings, strict=True):
        total = 0
        for i, dy, wy in _answers(y, level.shape[2], module.local_ensemble):
            for j, dx, wx in _answers(x, level.shape[3], module.local_ensemble):
                feature = _feature(level[b], i, j, module.unfold)
                value = torch.cat([_encode(encoding, dy, dx, feature), feature])
                total = total + wy * wx * value
        parts.append(total)
    return torch.cat(parts)


def oracle(
    module, levels: Sequence[Tensor], coordinates: Sequence[Sequence[tuple[Coordinate, Coordinate]]]
) -> Tensor:
    """Logits (B, P, K) at P coordinates (y, x) of each of B images."""
    x = torch.stack(
        [first_input(module, levels, b, *yx) for b, row in enumerate(coordinates) for yx in row]
    )
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
    x = x @ module.predictor.weight[:, :, 0, 0].t() + module.predictor.bias
    return x.unflatten(0, (len(coordinates), -1))
