"""Checks of sizes, windows, points and modes of fields.

Units and axes are those of :mod:`ifa_d2.fields.field`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Rational
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import GridAxis, check_coordinates

Window = Sequence[float]
Size = Sequence[int]

_MAX_SIDE = 2**31 - 1


def check_eval(*modules: nn.Module | None) -> None:
    """Raise a ValueError for a module in training mode, as a whole or in part."""
    for module in modules:
        parts = module.named_modules() if isinstance(module, nn.Module) else ()
        for name, part in parts:
            if part.training:
                where = f", which {name} is not" if name and not module.training else ""
                raise ValueError(
                    f"model must be in eval mode to predict{where}: call model.eval(), as in "
                    "training mode its predictions differ and change its BatchNorm statistics"
                )


def check_size(name: str, size: Sequence[Any]) -> tuple[int, int]:
    """The two numbers of a size, or a ValueError."""
    values = _finite(size)
    if len(values) != 2 or any(int(v) != v or not 1 <= v <= _MAX_SIDE for v in values):
        raise ValueError(
            f"{name} must be (height, width), each at least 1, at most {_MAX_SIDE} and whole, got "
            f"{short(size)}"
        )
    return int(values[0]), int(values[1])


def check_window(
    window: Window, image_size: tuple[int, int]
) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """The four numbers of a window inside a picture, exactly, or a ValueError."""
    values = _finite(window)
    if len(values) != 4:
        raise ValueError(
            f"window must be four finite numbers (y0, x0, y1, x1), got {short(window)}"
        )
    y0, x0, y1, x1 = (Fraction(v if isinstance(v, Rational) else float(v)) for v in values)
    if y1 <= y0 or x1 <= x0:
        raise ValueError(f"window must have y1 > y0 and x1 > x0, got {short(values)}")
    if y0 < 0 or x0 < 0 or y1 > image_size[0] or x1 > image_size[1]:
        raise ValueError(f"window must lie inside the picture of {image_size}, got {short(values)}")
    return y0, x0, y1, x1


def _finite(values: Any) -> tuple[Any, ...]:
    """The numbers of a sequence; none where it is no sequence of finite numbers."""
    try:
        numbers = tuple(values)
        finite = all(isinstance(one, Rational) or math.isfinite(one) for one in numbers)
        return numbers if finite else ()
    except (TypeError, ValueError, OverflowError):  # of float(), which isfinite takes
        return ()


def window_axis(
    begin: Fraction, end: Fraction, size: int, extent: int, share: Fraction
) -> GridAxis:
    """Place samples over begin..end of ``extent`` pixels, a ``share`` of the levels.

    The field has learned what pixels show: a sample stands for no less than one.
    """
    footprint = float(max(share / extent, (end - begin) * share / (extent * size)))
    begin, end = begin * share / extent, end * share / extent
    unit = math.lcm(begin.denominator, end.denominator)
    axis = GridAxis.window(int(begin * unit), int(end * unit), size, unit)
    return replace(axis, footprint=footprint)


def check_points(points: Any) -> Tensor:
    """Points as a tensor (P, 2), or a ValueError."""
    try:
        tensor = torch.as_tensor(points)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"points must be (P, 2) floating-point numbers, got {short(points)}"
        ) from error
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "meta" if tensor.is_meta else tensor.layout
        raise ValueError(f"points must be a dense tensor with values, got a {kind} one")
    if tensor.dim() != 2 or tensor.shape[1] != 2:
        raise ValueError(f"points must have shape (P, 2), got {tuple(tensor.shape)}")
    check_coordinates("points", tensor)
    return tensor
