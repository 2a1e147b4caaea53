"""Drawn streets of boxes and ellipsoids, and the paths of cameras through them.

Coordinates are in metres, x to the right, y downwards, z forwards, the ground is at y = 0. Classes
and colours are those of the package's `shapes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ifa_d2.data.shapes import CLASSES
from ifa_d2.data.shapes.paint import Color
from ifa_d2.data.shapes.palette import LEAVES, METALS, SKINS, VIVID, WALLS, pick

CAMERA_HEIGHT = 1.6
ROAD_HALF_WIDTH = 3.5
STREET_LENGTH = 60.0


@dataclass(frozen=True)
class Solid:
    """A box, or the ellipsoid within it, of one class and colour.

    Attributes:
        label: id of the class.
        low, high: corners (x, y, z).
        color: RGB in [0, 1].
        phase: of its texture.
        is_round: an ellipsoid.
    """

    label: int
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    color: Color
    phase: float
    is_round: bool = False


def make_street(rng: np.random.Generator) -> list[Solid]:
    """Draw the solids of a street along z; the ground and the sky are none."""
    solids: list[Solid] = []
    for side in (-1, 1):
        z = rng.uniform(-6, 0)
        while z < STREET_LENGTH:
            length = rng.uniform(5, 11)
            solids += _building(rng, side, z, z + length)
            z += length + rng.choice([0.0, rng.uniform(1.5, 5)], p=[0.6, 0.4])
        solids += [each for one in _places(rng, 3.5, 9.0) for each in _roadside(rng, side, one)]
        if rng.random() < 0.5:
            z = rng.uniform(0, 25)
            x = side * 5.6
            box = _box(x, 0.12, 0.0, 1.0, z, rng.uniform(6, 14))
            solids.append(_solid(rng, "fence", box, METALS))
    end = STREET_LENGTH + rng.uniform(0, 15)
    box = ((-25.0, -rng.uniform(4, 9), end), (25.0, 0.0, end + 5))
    solids.append(_solid(rng, "building", box, WALLS))
    return solids


def _places(rng: np.random.Generator, least: float, most: float) -> Iterator[float]:
    z = rng.uniform(1, 6)
    while z < STREET_LENGTH - 5:
        yield z
        z += rng.uniform(least, most)


_Box = tuple[tuple[float, float, float], tuple[float, float, float]]


def _box(x: float, wide: float, bottom: float, top: float, z: float, long: float) -> _Box:
    """Corners of a box around x, from z on, with heights above the ground."""
    return (x - wide / 2, -top, z), (x + wide / 2, -bottom, z + long)


def _solid(
    rng: np.random.Generator,
    name: str,
    box: _Box,
    colors: tuple[Color, ...],
    *,
    is_round: bool = False,
) -> Solid:
    low, high = (tuple(map(float, corner)) for corner in box)
    phase = float(rng.uniform(0, 64))
    return Solid(CLASSES.index(name), low, high, pick(rng, colors), phase, is_round)


def _building(rng: np.random.Generator, side: int, start: float, end: float) -> list[Solid]:
    x, height = side * rng.uniform(6.5, 8.5), rng.uniform(3.5, 11)
    low, high = (x, -height, start), (x + side * 8, 0.0, end)
    box = (tuple(map(min, low, high)), tuple(map(max, low, high)))
    return [_solid(rng, "building", box, WALLS)]


def _roadside(rng: np.random.Generator, side: int, z: float) -> list[Solid]:
    """Draw what stands at a place beside the road, or parks on it."""
    kind = rng.choice(["car", "tree", "pole", "sign", "person"], p=[0.4, 0.25, 0.1, 0.1, 0.15])
    x = side * rng.uniform(4.2, 5.2)
    if kind == "car":
        x, long = side * rng.uniform(2.3, 2.7), rng.uniform(3.4, 4.4)
        lower = _solid(rng, "car", _box(x, 1.7, 0.2, 0.95, z, long), VIVID)
        upper = _box(x, 1.5, 0.95, 1.45, z + 0.2 * long, 0.55 * long)
        return [lower, Solid(lower.label, *upper, (0.3, 0.34, 0.4), lower.phase)]
    if kind == "tree":
        trunk = _solid(rng, "tree", _box(x, 0.3, 0, 2.2, z, 0.3), ((0.35, 0.25, 0.18),))
        wide, top = rng.uniform(1.8, 3.0), rng.uniform(3.6, 5.5)
        crown = _box(x, wide, 1.5, top, z - wide / 2, wide)
        return [trunk, _solid(rng, "tree", crown, LEAVES, is_round=True)]
    if kind == "person":
        body = _solid(rng, "person", _box(x, 0.5, 0, 1.45, z, 0.4), VIVID)
        head = _box(x, 0.3, 1.4, 1.75, z + 0.05, 0.3)
        return [body, _solid(rng, "person", head, SKINS, is_round=True)]
    height = rng.uniform(2.4, 4.5)
    pole = _solid(rng, "pole", _box(x, 0.18, 0, height, z, 0.18), METALS)
    if kind == "pole":
        return [pole]
    board = _box(x, 0.9, height - 0.9, height, z - 0.1, 0.1)
    return [pole, _solid(rng, "sign", board, VIVID)]


def make_path(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw a camera's poses along a street, (count, 4, 4) from its coordinates to the world's."""
    time = np.arange(count)
    speed, start = rng.uniform(0.3, 0.5), rng.uniform(0, 15)
    sway, turn, nod = rng.uniform((0.1, 0.01, 0.0), (0.5, 0.06, 0.01))
    beat, begin = rng.uniform(0.25, 0.5), rng.uniform(0, 2 * np.pi)
    poses = np.tile(np.eye(4), (count, 1, 1))
    angles = np.stack(
        [nod * np.sin(1.7 * beat * time + begin), turn * np.cos(beat * time + begin), 0 * time], 1
    )
    poses[:, :3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    poses[:, 0, 3] = sway * np.sin(beat * time + begin)
    poses[:, 1, 3] = -CAMERA_HEIGHT
    poses[:, 2, 3] = start + speed * time
    return poses
