"""Films through drawn streets: what a camera sees, and its exact depth.

Coordinates are those of :mod:`drawn_street`, or of a camera: x to the right, y downwards, z
forwards. Pixels are (v, u), (0, 0) is the middle of the upper left one.

Shape legend: N rays, H x W pixels.
"""

from typing import NamedTuple

import numpy as np
from drawn_street import ROAD_HALF_WIDTH, Solid

from ifa_d2.data.shapes import CLASSES
from ifa_d2.data.shapes.noise import cell_noise, value_noise

_SAMPLES = 2  # of a pixel's colour, in each direction; depth and class are those of its middle
_OCTAVES = ((0.5, 0.5), (1.3, 0.55), (3.1, 0.45), (7.0, 0.4))  # cells a metre, contrast
_FACES = (0.82, 1.1, 1.0)  # brightness of faces across x, y and z
_EPSILON = 1e-12


class Frame(NamedTuple):
    """What a camera sees.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float64 metres along the optical axis; infinite in the sky.
        label: (H, W) uint8 ids of ``CLASSES``.
    """

    image: np.ndarray
    depth: np.ndarray
    label: np.ndarray


def intrinsics_of(height: int, width: int) -> np.ndarray:
    """Intrinsics (3, 3) in pixels of a picture of a drawn film; about 80 degrees across."""
    focal = 0.6 * width
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, 0.42 * height], [0, 0, 1.0]])


def draw_frame(
    solids: list[Solid], pose: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> Frame:
    """Draw what a camera sees.

    Args:
        solids: the street.
        pose: (4, 4) from the camera's coordinates to the world's.
        intrinsics: (3, 3) in pixels.
        height, width: of the picture.
    """
    offsets = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    image = np.zeros((height, width, 3))
    for dv in offsets:
        for du in offsets:
            v, u = np.mgrid[:height, :width].astype(float)
            hit = _cast(solids, pose, intrinsics, v + dv, u + du)
            image += _color(solids, hit).reshape(height, width, 3)
    hit = _cast(solids, pose, intrinsics, *np.mgrid[:height, :width].astype(float))
    image = np.clip(image / _SAMPLES**2, 0, 1)
    label = _labels(solids, hit).reshape(height, width)
    return Frame((255 * image + 0.5).astype(np.uint8), hit.depth.reshape(height, width), label)


_SKY, _GROUND = -2, -1


class _Hit(NamedTuple):
    """Where rays end.

    Attributes:
        depth: (N,), infinite in the sky.
        solid: (N,) its number, _GROUND or _SKY.
        axis: (N,) of the face that is met; 1 on the ground.
        point: (N, 3) in the world; in the sky a direction.
        footprint: (N,) metres of the surface in a pixel.
    """

    depth: np.ndarray
    solid: np.ndarray
    axis: np.ndarray
    point: np.ndarray
    footprint: np.ndarray


def _cast(
    solids: list[Solid], pose: np.ndarray, intrinsics: np.ndarray, v: np.ndarray, u: np.ndarray
) -> _Hit:
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    rays = (pose[:3, :3] @ np.linalg.inv(intrinsics) @ pixels).T  # (N, 3), depth 1 along the axis
    rays = np.where(np.abs(rays) < _EPSILON, _EPSILON, rays)
    origin = pose[:3, 3]
    depth = np.where(rays[:, 1] > 0, -origin[1] / rays[:, 1], np.inf)
    solid = np.where(np.isfinite(depth), _GROUND, _SKY)
    axis = np.ones(len(rays), int)
    for index, one in enumerate(solids):
        meet = _meet_ellipsoid if one.is_round else _meet_box
        found, face = meet(one, origin, rays)
        nearer = found < depth
        depth[nearer], solid[nearer], axis[nearer] = found[nearer], index, face[nearer]
    known = np.isfinite(depth)
    point = np.where(known[:, None], origin + np.where(known, depth, 0)[:, None] * rays, rays)
    slope = np.abs(rays[np.arange(len(rays)), axis]) / np.linalg.norm(rays, axis=1)
    footprint = np.where(known, depth, 0) / intrinsics[0, 0] / np.maximum(slope, 0.05)
    return _Hit(depth, solid, axis, point, footprint)


def _meet_box(one: Solid, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.array(one.low) - origin) / rays, (np.array(one.high) - origin) / rays
    near, far = np.minimum(first, second), np.maximum(first, second)
    enter = near.max(axis=1)
    met = (enter < far.min(axis=1)) & (enter > 0)
    return np.where(met, enter, np.inf), near.argmax(axis=1)


def _meet_ellipsoid(
    one: Solid, origin: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.array(one.low), np.array(one.high)
    radii = (high - low) / 2
    start, steps = (origin - (low + high) / 2) / radii, rays / radii
    a, b, c = (steps**2).sum(1), steps @ start, start @ start - 1
    inside = b**2 - a * c
    root = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (root > 0), root, np.inf), np.full(len(rays), 2)


def _labels(solids: list[Solid], hit: _Hit) -> np.ndarray:
    known = np.array([one.label for one in solids], np.uint8)
    label = np.full(len(hit.solid), CLASSES.index("sky"), np.uint8)
    label[hit.solid >= 0] = known[hit.solid[hit.solid >= 0]]
    ground = hit.solid == _GROUND
    on_road = np.abs(hit.point[:, 0]) < ROAD_HALF_WIDTH
    label[ground] = np.where(on_road, CLASSES.index("road"), CLASSES.index("pavement"))[ground]
    label[_windows(label, hit)] = CLASSES.index("window")
    return label


def _windows(label: np.ndarray, hit: _Hit) -> np.ndarray:
    """Which rays meet a pane of a building."""
    y, across = _surface(hit)
    pane = ((-y % 2.6) > 1.1) & ((-y % 2.6) < 2.3) & ((across % 2.2) > 0.9) & (hit.axis != 1)
    return pane & (label == CLASSES.index("building"))


def _surface(hit: _Hit) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates along the surfaces that rays meet, (N,) each."""
    x, y, z = hit.point.T
    return np.where(hit.axis == 1, z, y), np.where(hit.axis == 0, z, x)


def _color(solids: list[Solid], hit: _Hit) -> np.ndarray:
    """Colours (N, 3) of what rays meet."""
    label = _labels(solids, hit)
    base = np.array([one.color for one in solids])[np.maximum(hit.solid, 0)]
    base[label == CLASSES.index("window")] = (0.2, 0.26, 0.34)
    base[label == CLASSES.index("road")] = (0.42, 0.42, 0.45)
    base[label == CLASSES.index("pavement")] = (0.66, 0.61, 0.57)
    phase = np.array([one.phase for one in solids])[np.maximum(hit.solid, 0)]
    phase[hit.solid == _GROUND] = 3.0
    p, q = _surface(hit)
    p, q = p + 5.3 * phase, q + 3.7 * phase
    texture = np.ones(len(p))
    for frequency, contrast in _OCTAVES:
        # An octave that is finer than a pixel is grey there.
        sharp = np.exp(-((0.8 * frequency * hit.footprint) ** 2))
        texture += contrast * sharp * (2 * value_noise(p, q, frequency, frequency) - 1)
    color = base * np.clip(texture, 0.25, 1.9)[:, None] * np.array(_FACES)[hit.axis][:, None]
    color[_markings(label, hit)] = (0.95, 0.95, 0.9)
    sky = hit.solid == _SKY
    up, aside = -hit.point[:, 1], hit.point[:, 0]
    clouds = value_noise(up, aside, (9.0, 4.0), 2.5) * value_noise(up, aside, 14.0, 8.5)
    blue = np.array([0.45, 0.66, 0.95]) + np.outer(0.25 - 0.3 * up, (1, 0.8, 0.2))
    color[sky] = (blue + clouds[:, None] * 0.7)[sky]
    return np.clip(color, 0, 1)


def _markings(label: np.ndarray, hit: _Hit) -> np.ndarray:
    """Which rays meet the broken line in the middle of the road, or worn spots like it."""
    x, z = hit.point[:, 0], hit.point[:, 2]
    line = (np.abs(x) < 0.12) & (z % 4 < 2)
    cells = cell_noise(np.floor(z * 1.1), np.floor(x * 1.4), 5)
    return (label == CLASSES.index("road")) & (line | ((cells > 0.94) & (hit.footprint < 0.5)))
