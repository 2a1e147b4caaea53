"""Scenes of painted regions, with exact labels at any resolution.

A scene is a stack of regions in continuous coordinates. Its label and its picture at H x W are both
read from that stack: the label at pixel centres, the picture averaged over each pixel's area.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from .geometry import Box, simple_parts
from .paint import Color
from .palette import ASPECT, Layer


@dataclass(frozen=True)
class View:
    """Camera: the world's point (y, x) at the middle, tilt (sine), and zoom."""

    center: tuple[float, float] = (0.5, ASPECT / 2)
    tilt: float = 0.0
    zoom: float = 1.0

    def world(self, v: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World coordinates (y, x) of image positions, both as shares (v, u) in [0, 1]."""
        cosine = (1 - self.tilt * self.tilt) ** 0.5
        v, u = (v - 0.5) / self.zoom, (u - 0.5) * (ASPECT / self.zoom)
        y = self.center[0] + v * cosine + u * self.tilt
        x = self.center[1] + u * cosine - v * self.tilt
        return y, x

    def window(self, box: Box, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an image of (height, width) that may show a box of the world."""
        cosine = (1 - self.tilt * self.tilt) ** 0.5
        vs, us = [], []
        for y, x in ((box[0], box[1]), (box[0], box[3]), (box[2], box[1]), (box[2], box[3])):
            dy, dx = y - self.center[0], x - self.center[1]
            vs.append(((dy * cosine - dx * self.tilt) * self.zoom + 0.5) * height)
            us.append(((dx * cosine + dy * self.tilt) * self.zoom / ASPECT + 0.5) * width)
        return _slice(min(vs), max(vs), height), _slice(min(us), max(us), width)


def _slice(start: float, stop: float, size: int) -> slice:
    """Pixels of `size` that touch [start, stop], and one more at each end against rounding."""
    first, last = math.floor(start) - 1, math.ceil(stop) + 1
    return slice(min(max(first, 0), size), min(max(last, 0), size))


@dataclass(frozen=True)
class Scene:
    """A stack of layers from back to front, seen from a view in some light.

    The first layer covers everything. `light` multiplies the colours, `gamma` bends them, `noise`
    is the standard deviation of the sensor's noise in [0, 255] steps.
    """

    layers: tuple[Layer, ...]
    view: View = View()
    light: Color = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    noise: float = 0.0
    seed: int = 0

    def label(self, height: int, width: int) -> np.ndarray:
        """Draw class ids (height, width) uint8, by the topmost layer at each pixel's centre."""
        classes = np.array([layer.label for layer in self.layers], dtype=np.uint8)
        return classes[self._topmost(height, width)]

    def things(self, height: int, width: int) -> np.ndarray:
        """Draw the numbers of things (height, width) int32, 0 where there is none, as `label`."""
        numbers = np.array([layer.thing for layer in self.layers], dtype=np.int32)
        return numbers[self._topmost(height, width)]

    def image(self, height: int, width: int, *, supersample: int = 3) -> np.ndarray:
        """Draw the picture, RGB uint8 (height, width, 3), of `supersample`^2 samples a pixel."""
        if supersample < 1:
            raise ValueError(f"supersample must be at least 1, got {supersample}")
        fine_height, fine_width = height * supersample, width * supersample
        topmost = self._topmost(fine_height, fine_width).ravel()
        order = np.argsort(topmost, kind="stable")  # the samples of each layer side by side
        y, x = (axis.ravel()[order] for axis in self._centers(fine_height, fine_width))
        stops = np.cumsum(np.bincount(topmost, minlength=len(self.layers)))
        colors = np.empty((len(topmost), 3), dtype=np.float32)
        for layer, start, stop in zip(self.layers, (0, *stops), stops, strict=False):
            if stop > start:
                painted = layer.paint.colors(y[start:stop], x[start:stop])
                colors[order[start:stop]] = painted
        colors = colors.reshape(fine_height, fine_width, 3)
        offsets = itertools.product(range(supersample), repeat=2)
        pixels = sum(colors[i::supersample, j::supersample] for i, j in offsets) / supersample**2
        pixels = 255 * np.clip(pixels * np.array(self.light), 0, 1) ** self.gamma
        rng = np.random.default_rng([self.seed, height, width])
        pixels += self.noise * rng.standard_normal(pixels.shape)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def _centers(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        # Odd integers over even ones: a centre shared by two resolutions is the same float in both.
        v = (2 * np.arange(height) + 1) / (2 * height)
        u = (2 * np.arange(width) + 1) / (2 * width)
        return self.view.world(v[:, None], u[None, :])

    def _topmost(self, height: int, width: int) -> np.ndarray:
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        y, x = self._centers(height, width)
        topmost = np.zeros((height, width), dtype=np.int16)
        for index, layer in enumerate(self.layers[1:], start=1):
            for part in simple_parts(layer.region):
                window = self.view.window(part.bounds, height, width)
                topmost[window][part.contains(y[window], x[window])] = index
        return topmost
