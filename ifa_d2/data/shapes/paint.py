"""Surfaces: colours as functions of continuous coordinates.

A paint answers `colors(y, x)` for 1-D arrays of n coordinates with (n, 3) RGB values, nominally in
[0, 1]; coordinates as in geometry.py.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .geometry import Box
from .noise import cell_noise, value_noise

Color = tuple[float, float, float]


class Paint(Protocol):
    """Filling of a region."""

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """RGB (n, 3) at the points (y, x)."""


def _tint(color: Color, strength: np.ndarray) -> np.ndarray:
    return strength[:, None] * np.array(color)


@dataclass(frozen=True)
class Plain:
    """One colour with grain, optionally lighter at the top of a span than at its bottom.

    `shade` is ((y at the top, y at the bottom), strength).
    """

    color: Color
    grain: float = 0.06
    frequency: float = 60.0
    phase: float = 0.0
    shade: tuple[tuple[float, float], float] = ((0.0, 1.0), 0.0)

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        (top, bottom), strength = self.shade
        depth = np.clip((y - top) / (bottom - top), 0, 1) - 0.5
        noise = value_noise(y, x, self.frequency, self.phase) - 0.5
        return _tint(self.color, 1 + 2 * self.grain * noise - strength * depth)


@dataclass(frozen=True)
class Masonry:
    """Bricks or paving stones, each a little different, with joints in between.

    `size` is the stone's (height, width), `joint` the joint's width in scene units.
    """

    color: Color
    size: tuple[float, float]
    joint: float
    contrast: float = 0.12
    joint_tone: float = 0.8
    phase: int = 0

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        height, width = self.size
        row = np.floor(y / height)
        shifted = x + (row % 2) * width / 2
        column = np.floor(shifted / width)
        tone = 1 + self.contrast * (2 * cell_noise(row, column, self.phase) - 1)
        in_joint = (y % height < self.joint) | (shifted % width < self.joint)
        tone = np.where(in_joint, self.joint_tone, tone)
        return _tint(self.color, tone + 0.06 * (value_noise(y, x, 9.0, self.phase) - 0.5))


@dataclass(frozen=True)
class Leaves:
    """Foliage: clumps of light and shade at two sizes, light from the upper left."""

    color: Color
    bounds: Box
    phase: float = 0.0

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.bounds
        light = 0.5 - ((y - top) / (bottom - top) + 0.6 * (x - left) / (right - left)) / 1.6
        coarse = value_noise(y, x, 28.0, self.phase) - 0.5
        fine = value_noise(y, x, 75.0, self.phase + 11) - 0.5
        tone = 1 + 0.45 * light + 0.5 * coarse + 0.45 * fine
        warm = np.array([0.10, 0.07, -0.04]) * np.clip(coarse + light, 0, 1)[:, None]
        return _tint(self.color, tone) + warm


@dataclass(frozen=True)
class Sky:
    """Sky from the zenith's colour to the horizon's, with drifting clouds."""

    zenith: Color
    horizon: Color
    horizon_y: float
    cloud: Color
    cover: float
    phase: float

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        height = np.clip(y / self.horizon_y, 0, 1)[:, None]
        clear = (1 - height) * np.array(self.zenith) + height * np.array(self.horizon)
        shape = 0.65 * value_noise(y, x, (7.0, 2.6), self.phase)
        shape += 0.35 * value_noise(y, x, (18.0, 8.0), self.phase + 5)
        amount = np.clip((shape - 1 + self.cover) * 4, 0, 0.9)[:, None]
        return clear * (1 - amount) + np.array(self.cloud) * amount


@dataclass(frozen=True)
class Glass:
    """Window panes: a grid's cells mirror the sky, are dark or lit, with a slanting gleam."""

    bounds: Box
    shape: tuple[int, int]
    mirrored: Color
    lit_share: float
    phase: int

    def colors(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.bounds
        row = np.floor((y - top) / (bottom - top) * self.shape[0])
        column = np.floor((x - left) / (right - left) * self.shape[1])
        choice = cell_noise(row, column, self.phase)
        level = 0.75 + 0.5 * cell_noise(row, column, self.phase + 3)
        lit, dark = np.array([1.0, 0.80, 0.45]), np.array([0.20, 0.24, 0.30])
        color = np.where((choice < 0.45)[:, None], dark, np.array(self.mirrored))
        color = np.where((choice > 1 - self.lit_share)[:, None], lit, color)
        gleam = 0.12 * (((y + x) * 22) % 1 < 0.35)
        return color * (level + gleam)[:, None]
