"""Classes, shared colours, and the layers of a scene.

Many things share one set of colours, so that what tells them apart is shape, texture and place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .geometry import Region
from .paint import Color, Paint

CLASSES = (
    "sky",
    "building",
    "window",
    "road",
    "pavement",
    "tree",
    "pole",
    "wire",
    "fence",
    "sign",
    "car",
    "person",
    "bicycle",
)
THINGS = ("car", "person", "bicycle")  # classes whose things are numbered
ASPECT = 1.5  # width over height of the nominal view
PIXEL = 1 / 128  # of the nominal 128 rows, in scene units

WALLS = (
    (0.66, 0.36, 0.29),
    (0.78, 0.56, 0.42),
    (0.86, 0.77, 0.62),
    (0.80, 0.80, 0.78),
    (0.58, 0.60, 0.62),
    (0.60, 0.66, 0.60),
    (0.55, 0.62, 0.72),
    (0.83, 0.66, 0.40),
    (0.50, 0.36, 0.32),
)
VIVID = (
    (0.82, 0.20, 0.18),
    (0.16, 0.38, 0.70),
    (0.93, 0.76, 0.20),
    (0.14, 0.52, 0.50),
    (0.94, 0.94, 0.92),
    (0.18, 0.19, 0.22),
    (0.62, 0.65, 0.69),
    (0.90, 0.48, 0.20),
    (0.42, 0.56, 0.32),
)
METALS = ((0.30, 0.32, 0.34), (0.52, 0.54, 0.55), (0.22, 0.30, 0.27), (0.40, 0.31, 0.24))
SKINS = ((0.93, 0.76, 0.64), (0.78, 0.57, 0.43), (0.48, 0.33, 0.25))
LEAVES = ((0.28, 0.46, 0.22), (0.20, 0.38, 0.22), (0.42, 0.52, 0.22), (0.66, 0.45, 0.20))


@dataclass(frozen=True)
class Layer:
    """A region of one class, filled with one paint.

    `thing` is the number of the thing it is a part of, from 1, or 0. A bicycle and who rides it
    have one number, and two classes.
    """

    label: int
    region: Region
    paint: Paint
    thing: int = 0


def layer(name: str, region: Region, paint: Paint) -> Layer:
    """Make a layer of the class of this name."""
    return Layer(CLASSES.index(name), region, paint)


def pick(rng: np.random.Generator, colors: Sequence[Color], jitter: float = 0.07) -> Color:
    """Pick one of `colors`, jitter each channel by up to `jitter`, and its brightness."""
    color = np.array(colors[rng.integers(len(colors))])
    color = color * rng.uniform(0.85, 1.12) + rng.uniform(-jitter, jitter, 3)
    red, green, blue = np.clip(color, 0.05, 1.0).tolist()
    return red, green, blue
