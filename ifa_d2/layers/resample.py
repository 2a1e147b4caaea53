"""Pillow's resize, to the last bit, in tensor operations that a tracer can follow.

Shape legend: B batch, C channels, h x w pixels, n pixels along one axis, m of them after.
"""

import torch
from torch import Tensor

from .queries import Length

_BITS = 22  # of the fraction in Pillow's weights of 8-bit pictures
_LOW = 1 << 11  # weights are two halves of 11 bits: sums of products then stay exact in float32


def resize_bilinear(image: Tensor, size: tuple[Length, Length]) -> Tensor:
    """Resize a picture as ``PIL.Image.resize`` does with ``BILINEAR``.

    Where it shrinks, a pixel is averaged over all that it covers.

    Args:
        image: (B, C, h, w) float32 of whole numbers from 0 to 255.
        size: (height, width) of the result.

    Returns:
        (B, C, height, width) float32 of whole numbers from 0 to 255.
    """
    wide = _resize_axis(image, size[1])  # Pillow's order, which shows in its rounding
    return _resize_axis(wide.transpose(2, 3), size[0]).transpose(2, 3)


def _resize_axis(image: Tensor, m: Length) -> Tensor:
    """Resize the last axis."""
    weights = bilinear_weights(image.shape[3], m, image.device)
    high, low = weights // _LOW, weights % _LOW
    sums = [torch.matmul(image, part.to(image.dtype).t()).long() for part in (high, low)]
    rounded = sums[0] * _LOW + sums[1] + (1 << (_BITS - 1))
    return (rounded // (1 << _BITS)).to(image.dtype)


def bilinear_weights(n: Length, m: Length, device: torch.device | None = None) -> Tensor:
    """Compute int64 weights (m, n), in 2**-22, of each pixel in each resized pixel.

    Pixel ``i`` lies at ``(2 i + 1) / 2n`` of the axis and reaches as far as the longer of two
    spacings, before or after: its weight falls off linearly, in whole numbers of ``1 / 2nm``.
    """
    before = 2 * torch.arange(n, device=device) + 1
    after = 2 * torch.arange(m, device=device) + 1
    apart = (before[None] * m - after[:, None] * n).abs()
    reach = 2 * torch.maximum(_number(n, device), _number(m, device))
    share = (reach - apart).clamp(min=0)
    total = share.sum(dim=1, keepdim=True)
    return (share * (2 << _BITS) + total) // (2 * total)


def shortest_edge_size(
    height: Length, width: Length, short_edge: int, max_size: int
) -> tuple[Length, Length]:
    """Compute the size of a resize to a shortest edge, bounded by ``max_size``.

    In the float64 steps of Detectron2's ``ResizeShortestEdge``, which decide how halves round.
    """
    # Tensors all: torch divides a number by a tensor in two steps, which round twice.
    h, w, short, limit = (_number(n).double() for n in (height, width, short_edge, max_size))
    scale = short / torch.minimum(h, w)
    new = torch.where(h < w, short, scale * h), torch.where(h < w, scale * w, short)
    longest = torch.maximum(*new)
    shrink = torch.where(longest > limit, limit / longest, torch.ones_like(longest))
    return tuple(_length((side * shrink + 0.5).floor().long()) for side in new)


def _number(length: Length, device: torch.device | None = None) -> Tensor:
    """Convert a length to an int64 scalar tensor."""
    if isinstance(length, Tensor):
        return length.to(device=device, dtype=torch.int64)
    return torch.full((), length, dtype=torch.int64, device=device)


def _length(number: Tensor) -> Length:
    """Convert a scalar tensor to a length, of which a tracer knows the range alone."""
    if torch.jit.is_tracing():
        return number
    length = number.item()
    torch._check(length >= 1)
    torch._check(length <= 1 << 16)
    return length


def free_length(length: Length) -> Length:
    """Return the same length, without a tracer's record of how it came about.

    Sizes of maps that follow from it are then short terms, whatever it was made of.
    """
    return _length(_number(length))
