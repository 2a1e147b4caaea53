"""Regions of the plane in continuous coordinates, to draw labels and pictures from.

A region answers `contains(y, x)` for arrays of coordinates and gives `bounds`, a box that holds it.
Coordinates are scene units: the height of the nominal view is 1, y points down, x to the right.
Boxes are (top, left, bottom, right). No trigonometry is done on coordinates, so that a point gets
the same answer at every resolution at which it is asked for.
"""

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .noise import value_noise

Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Region(Protocol):
    """A shape that can be drawn: a set of points and a box around it."""

    @property
    def bounds(self) -> Box:
        """A box (top, left, bottom, right) outside of which `contains` is false."""

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Test which points belong to the region; `y` and `x` broadcast together."""


@dataclass(frozen=True)
class Rectangle:
    """Points from (top, left) up to, but without, (bottom, right)."""

    bounds: Box

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.bounds
        return (y >= top) & (y < bottom) & (x >= left) & (x < right)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse with axis-aligned radii (vertical, horizontal)."""

    center: Point
    radii: Point

    @property
    def bounds(self) -> Box:
        (cy, cx), (ry, rx) = self.center, self.radii
        return cy - ry, cx - rx, cy + ry, cx + rx

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        dy, dx = (y - self.center[0]) / self.radii[0], (x - self.center[1]) / self.radii[1]
        return dy * dy + dx * dx <= 1


@dataclass(frozen=True)
class Ring:
    """A circle's line of a given width, without its inside."""

    center: Point
    radius: float
    width: float

    @property
    def bounds(self) -> Box:
        (cy, cx), reach = self.center, self.radius + self.width / 2
        return cy - reach, cx - reach, cy + reach, cx + reach

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        square = (y - self.center[0]) ** 2 + (x - self.center[1]) ** 2
        inner, outer = self.radius - self.width / 2, self.radius + self.width / 2
        return (square >= inner * inner) & (square <= outer * outer)


@dataclass(frozen=True)
class Polygon:
    """A polygon of any shape, by the even-odd rule; corners are (y, x)."""

    corners: tuple[Point, ...]

    @property
    def bounds(self) -> Box:
        ys, xs = zip(*self.corners, strict=True)
        return min(ys), min(xs), max(ys), max(xs)

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        inside = np.zeros(np.broadcast(y, x).shape, dtype=bool)
        for (y0, x0), (y1, x1) in zip(
            self.corners, self.corners[1:] + self.corners[:1], strict=True
        ):
            if y0 != y1:
                crosses = (y >= y0) != (y >= y1)
                inside ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
        return inside


@dataclass(frozen=True)
class Stroke:
    """Points within half of `width` of a line through `points`: poles, wires, limbs."""

    points: tuple[Point, ...]
    width: float

    @property
    def bounds(self) -> Box:
        ys, xs = zip(*self.points, strict=True)
        reach = self.width / 2
        return min(ys) - reach, min(xs) - reach, max(ys) + reach, max(xs) + reach

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        inside = np.zeros(np.broadcast(y, x).shape, dtype=bool)
        for (y0, x0), (y1, x1) in itertools.pairwise(self.points):
            vy, vx = y1 - y0, x1 - x0
            length = max(vy * vy + vx * vx, 1e-12)
            along = np.clip(((y - y0) * vy + (x - x0) * vx) / length, 0, 1)
            dy, dx = y - y0 - along * vy, x - x0 - along * vx
            inside |= dy * dy + dx * dx <= (self.width / 2) ** 2
        return inside


@dataclass(frozen=True)
class Grating:
    """A railing with gaps: upright bars every `pitch`, and horizontal rails.

    `rails` are the rails' heights as fractions of the box, from its top; bars and rails are
    `width` thick.
    """

    bounds: Box
    pitch: float
    width: float
    rails: tuple[float, ...]

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        top, left, bottom, _ = self.bounds
        solid = (x - left) % self.pitch < self.width
        for rail in self.rails:
            solid = solid | (np.abs(y - (top + rail * (bottom - top))) <= self.width / 2)
        return solid & Rectangle(self.bounds).contains(y, x)


@dataclass(frozen=True)
class Panes:
    """A grid of windows, each split into panes by bars, which are left out.

    `box` is cut into `shape` (rows, columns) equal cells; in each, the middle `fill` (of height,
    of width) is glass, but for `bars` (rows, columns) thin bars of width `bar`.
    """

    bounds: Box
    shape: tuple[int, int]
    fill: tuple[float, float]
    bars: tuple[int, int]
    bar: float

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.bounds
        glass = Rectangle(self.bounds).contains(y, x)
        for axis, start, stop in ((y, top, bottom), (x, left, right)):
            i = 0 if axis is y else 1
            cell = (stop - start) / self.shape[i]
            size = cell * self.fill[i]
            within = (axis - start) % cell - (cell - size) / 2
            solid = (within >= 0) & (within < size)
            for k in range(self.bars[i]):
                middle = size * (k + 1) / (self.bars[i] + 1)
                solid = solid & (np.abs(within - middle) > self.bar / 2)
            glass = glass & solid
        return glass


@dataclass(frozen=True)
class Foliage:
    """A tree's crown: discs that run into each other, with a ragged outline and gaps.

    `raggedness` 0 gives plain discs; 0.5 moves the outline by up to half of a radius.
    """

    centers: tuple[Point, ...]
    radii: tuple[float, ...]
    raggedness: float
    phase: float

    @property
    def bounds(self) -> Box:
        ys, xs = np.array(self.centers).T
        reach = np.array(self.radii)
        return (
            float((ys - reach).min()),
            float((xs - reach).min()),
            float((ys + reach).max()),
            float((xs + reach).max()),
        )

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        depth = np.full(np.broadcast(y, x).shape, np.inf)
        for (cy, cx), radius in zip(self.centers, self.radii, strict=True):
            square = ((y - cy) ** 2 + (x - cx) ** 2) / (radius * radius)
            depth = np.minimum(depth, square)
        return depth <= 1 - self.raggedness * value_noise(y, x, 38.0, self.phase)


@dataclass(frozen=True)
class Union:
    """Union of several regions."""

    regions: tuple[Region, ...]

    @property
    def bounds(self) -> Box:
        tops, lefts, bottoms, rights = zip(*(r.bounds for r in self.regions), strict=True)
        return min(tops), min(lefts), max(bottoms), max(rights)

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        inside = self.regions[0].contains(y, x)
        for region in self.regions[1:]:
            inside = inside | region.contains(y, x)
        return inside


def simple_parts(region: Region) -> tuple[Region, ...]:
    """Split `region` into parts with tighter boxes, which are quicker to look up."""
    if isinstance(region, Union):
        return tuple(part for each in region.regions for part in simple_parts(each))
    if isinstance(region, Stroke):
        pairs = itertools.pairwise(region.points)
        return tuple(Stroke(pair, region.width) for pair in pairs)
    return (region,)
