"""Views of a picture: sizes, windows and mirror images for a model.

Sizes are (height, width). A picture is resized; windows are cut from it, in its pixels; the answer
has a size of its own, in samples, whose centres lie where the centres of as many equal cells of the
picture do. All of this is integers.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import torch
from detectron2.data import transforms as T
from torch import Tensor

from ..choices import BLENDS
from ..layers import GridAxis

Size = tuple[int, int]

# Of "gaussian", as shares of a window's side: its standard deviation, and how far from an edge it
# is lowered to nothing. There, features see most of the padding around the window.
_DEVIATION = 1 / 8
_EDGE = 1 / 16
_NOTHING = 1e-12  # and yet the answer where there is no other


@dataclass(frozen=True)
class Span:
    """A window along one axis.

    Attributes:
        begin, end: pixels of the resized picture.
        length: of the resized picture along the axis, in pixels.
        samples: the run of the answer's samples whose centres lie in the window.
        total: samples of the answer along the axis.
        weights: (samples,) float32, the window's share of the answer at each of its samples.
    """

    begin: int
    end: int
    length: int
    samples: slice
    total: int
    weights: Tensor = field(compare=False)

    def axis(self, share: Fraction = Fraction(1)) -> GridAxis:
        """The samples in image coordinates of the window.

        Args:
            share: of the extent that 0..1 stands for, the window's part; the rest is padding.
        """
        first = (2 * self.samples.start + 1) * self.length - 2 * self.begin * self.total
        return GridAxis(
            start=first * share.numerator,
            step=2 * self.length * share.numerator,
            size=self.samples.stop - self.samples.start,
            denominator=2 * self.total * (self.end - self.begin) * share.denominator,
        )

    def part(self, samples: slice) -> "Span":
        """The window, of a run of the answer's samples that it has some of."""
        start = max(self.samples.start, samples.start)
        stop = min(self.samples.stop, samples.stop)
        first = self.samples.start
        weights = self.weights[start - first : stop - first]
        return replace(self, samples=slice(start, stop), weights=weights)


@dataclass(frozen=True)
class Strip:
    """Windows of one size side by side.

    Attributes:
        size: of the resized picture, in pixels.
        rows: of all windows.
        cols: of each window, from left to right.
    """

    size: Size
    rows: Span
    cols: tuple[Span, ...]


@dataclass(frozen=True)
class Views:
    """Sizes, mirror images and windows of a picture.

    Args:
        scales: factors of the picture's size; None is 1 alone, unless there are ``short_edges``.
        short_edges: lengths of the shorter side in pixels, instead of ``scales``.
        max_size: bound of the longer side in pixels that goes with ``short_edges``; None for none.
        flip: every view is taken mirrored left to right as well.
        window: (height, width) in pixels of the resized picture. A picture that is smaller along an
            axis is taken whole along it. None takes it whole.
        stride: from one window to the next, for both axes or (vertical, horizontal). A float is a
            fraction of the window's side, rounded up to pixels; an int is pixels. The last window
            ends at the border, and may be nearer to the one before.
        blend: how windows share the samples that several answer: "constant", alike (None too); or
            "gaussian", by a weight along each axis that falls from the middle of a window, with a
            standard deviation of an eighth of its side, to nothing a sixteenth from its edges.

    Raises:
        ValueError: an argument out of range, by name.
    """

    scales: Sequence[float] | None = None
    short_edges: Sequence[int] | None = None
    max_size: int | None = None
    flip: bool = False
    window: Sequence[int] | None = None
    stride: float | Sequence[float] = 2 / 3
    blend: str | None = None

    def __post_init__(self) -> None:
        for name in ("scales", "short_edges", "window", "stride"):  # lists, where a config says it
            if isinstance(getattr(self, name), Sequence):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.scales is not None and self.short_edges is not None:
            raise ValueError(
                f"scales and short_edges exclude each other, got {self.scales} and "
                f"{self.short_edges}"
            )
        scales = (1.0,) if self.scales is None else self.scales
        if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise ValueError(f"scales must be one or more numbers above 0, got {scales}")
        if self.short_edges is not None:
            _check_pixels("short_edges", self.short_edges)
        if self.max_size is not None:
            _check_pixels("max_size", (self.max_size,))
        if self.window is not None:
            _check_pixels("window", self.window, 2)
        if self.blend not in (None, *BLENDS):
            raise ValueError(f"blend must be one of {BLENDS}, or None, got {self.blend!r}")
        self.strides()

    @property
    def trivial(self) -> bool:
        """Whether every picture is shown once, whole and in its own size."""
        own_size = self.short_edges is None and (self.scales or (1,)) == (1,)
        return own_size and not self.flip and self.window is None

    def strides(self) -> Size:
        """Return pixels from one window to the next, (y, x); (1, 1) without windows.

        Raises:
            ValueError: ``stride`` is out of range.
        """
        pair = self.stride if isinstance(self.stride, Sequence) else (self.stride,) * 2
        if len(pair) != 2:
            raise ValueError(f"stride must be one number, or two, got {self.stride}")
        windows = (1, 1) if self.window is None else self.window
        return tuple(
            _stride(value, None if self.window is None else side)
            for value, side in zip(pair, windows, strict=True)
        )

    def sizes(self, image_size: Size) -> list[Size]:
        """Sizes in pixels that a picture is resized to."""
        height, width = image_size
        if self.short_edges is not None:
            bound = self.max_size or math.inf
            return [
                T.ResizeShortestEdge.get_output_shape(height, width, edge, bound)
                for edge in self.short_edges
            ]
        return [
            (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
            for scale in self.scales or (1,)
        ]

    def show_once(self, image_size: Size) -> bool:
        """Return whether a picture of this size is shown once, whole, in its own size."""
        if self.flip or self.sizes(image_size) != [tuple(image_size)]:
            return False
        return self.window is None or all(
            side <= most for side, most in zip(image_size, self.window, strict=True)
        )

    def strips(self, image_size: Size, output_size: Size) -> list[Strip]:
        """All windows of a picture, size by size, each from top to bottom.

        The weights of one size's windows sum to 1 at every sample. A window without a sample, where
        the answer is much smaller than the picture, is left out.

        Args:
            image_size: of the picture as it is given, in pixels.
            output_size: of the answer, in samples.
        """
        out = []
        windows, strides = self.window or (None, None), self.strides()
        for size in self.sizes(image_size):
            axes = zip(size, windows, strides, output_size, strict=True)
            rows, cols = (slide(*axis, blend=self.blend) for axis in axes)
            out += [Strip(size, row, cols) for row in rows]
        return out


def slide(
    length: int,
    window: int | None,
    stride: int,
    total: int,
    *,
    blend: str | None = None,
    multiple: int = 1,
) -> tuple[Span, ...]:
    """Windows that cover an axis.

    Args:
        length: of the axis, in pixels.
        window: length of each; None is the whole axis, as one that is longer.
        stride: from one to the next, in pixels, at most ``window``.
        total: samples of the answer along the axis.
        blend: see :class:`Views`.
        multiple: the last window begins at a multiple of this, and is shorter where it would pass
            the end of the axis. It divides ``stride``, and is at most ``window``.
    """
    window = min(window or length, length)
    last = -(-(length - window) // multiple) * multiple
    places = []
    for i in range(-(-(length - window) // stride) + 1):
        begin = min(i * stride, last)
        end = min(begin + window, length)
        first, stop = (-((length - 2 * border * total) // (2 * length)) for border in (begin, end))
        if first < stop:
            places.append((begin, end, length, slice(first, stop), total))
    sums = torch.zeros(total, dtype=torch.float64)
    for place in places:
        sums[place[3]] += _falloff(*place, blend)
    return tuple(
        Span(*place, (_falloff(*place, blend) / sums[place[3]]).float()) for place in places
    )


def reach(spans: Sequence[Span]) -> int:
    """Count the samples that spans, in the order of their first ones, overlap the next one by."""
    longest = bottom = 0
    for span in spans:
        bottom = max(bottom, span.samples.stop)
        longest = max(longest, bottom - span.samples.start)
    return longest


def _falloff(
    begin: int, end: int, length: int, samples: slice, total: int, blend: str | None
) -> Tensor:
    """The weights of a window's samples, (samples,) float64 above 0."""
    if blend != "gaussian":
        return torch.ones(samples.stop - samples.start, dtype=torch.float64)
    centers = (torch.arange(samples.start, samples.stop).double() + 0.5) * (length / total)
    places = (centers - (begin + end) / 2) / (end - begin)
    weights, least = (
        torch.exp(-0.5 * (at / _DEVIATION) ** 2) for at in (places, torch.tensor(0.5 - _EDGE))
    )
    return (weights - least).clamp_(min=_NOTHING)


def _stride(value: float, window: int | None) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if value < 1 or (window is not None and value > window):
            most = "" if window is None else f" and at most the window's {window}"
            raise ValueError(f"stride must be 1 pixel or more{most}, got {value}")
        return int(value)
    if isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"stride must be a fraction in (0, 1], or an int of pixels, got {value}")
    # 2 / 3 of 768 is 512, which its float is not quite.
    return max(1, math.ceil((window or 1) * Fraction(value).limit_denominator(10_000)))


def _check_pixels(name: str, values: tuple[int, ...], count: int | None = None) -> None:
    if not values or (count is not None and len(values) != count):
        raise ValueError(f"{name} must be {count or 'one or more'} whole numbers, got {values}")
    if not all(isinstance(value, numbers.Integral) and value >= 1 for value in values):
        raise ValueError(f"{name} must be whole numbers of 1 or more, got {values}")
