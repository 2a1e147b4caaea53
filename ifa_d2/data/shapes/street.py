"""Random street scenes: sky, houses, a pavement, two lanes, a near pavement."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from . import moving, still
from .geometry import Rectangle
from .paint import Color, Masonry, Plain, Sky
from .palette import ASPECT, CLASSES, PIXEL, THINGS, Layer, layer, pick
from .scene import Scene, View

_FAR = 0.8  # how far beyond the nominal view things are drawn, for tilted views


@dataclass(frozen=True)
class _Weather:
    zenith: Color
    horizon: Color
    cloud: Color
    light: Color


_WEATHERS = (
    _Weather((0.33, 0.58, 0.88), (0.78, 0.89, 0.97), (0.97, 0.97, 0.98), (1.0, 1.0, 1.0)),
    _Weather((0.45, 0.67, 0.88), (0.99, 0.90, 0.72), (1.0, 0.95, 0.85), (1.06, 0.98, 0.86)),
    _Weather((0.58, 0.64, 0.70), (0.82, 0.85, 0.87), (0.72, 0.75, 0.79), (0.90, 0.93, 0.97)),
    _Weather((0.30, 0.34, 0.60), (0.98, 0.68, 0.50), (0.85, 0.55, 0.58), (0.86, 0.76, 0.82)),
)


def make_scene(*key: int) -> Scene:
    """Make the street scene of a random key, such as (seed, split, index); it is repeatable."""
    rng = np.random.default_rng(key)
    weather = _WEATHERS[rng.integers(len(_WEATHERS))]
    kerb = rng.uniform(0.56, 0.64)
    near = rng.uniform(0.90, 0.96)
    road = kerb + rng.uniform(0.08, 0.10)
    numbers = itertools.count(1)
    layers = _backdrop(rng, weather, kerb)
    layers += _ground(rng, kerb, road, near)
    layers += _far_pavement(rng, numbers, kerb, road)
    layers += _traffic(rng, numbers, road, near)
    layers += _foreground(rng, numbers, near)
    view = View(
        center=(0.5 + rng.uniform(-0.03, 0.03), ASPECT / 2 + rng.uniform(-0.1, 0.1)),
        tilt=rng.uniform(-0.05, 0.05),
        zoom=rng.uniform(0.95, 1.2),
    )
    light = tuple(float(c) for c in np.array(weather.light) * rng.uniform(0.85, 1.1))
    return Scene(
        layers=tuple(layers),
        view=view,
        light=light,
        gamma=rng.uniform(0.85, 1.2),
        noise=rng.uniform(2.0, 6.0),
        seed=int(rng.integers(2**31)),
    )


def _thing(numbers: Iterator[int], layers: list[Layer]) -> list[Layer]:
    """The layers of one thing with its number; its shadow is none of them."""
    number = next(numbers)
    named = [CLASSES.index(name) for name in THINGS]
    return [replace(each, thing=number) if each.label in named else each for each in layers]


def _band(top: float, bottom: float) -> Rectangle:
    return Rectangle((top, -_FAR, bottom, ASPECT + _FAR))


def _backdrop(rng: np.random.Generator, weather: _Weather, kerb: float) -> list[Layer]:
    sky = Sky(
        pick(rng, (weather.zenith,), 0.03),
        pick(rng, (weather.horizon,), 0.03),
        kerb,
        weather.cloud,
        rng.uniform(0.2, 0.7),
        rng.uniform(0, 60),
    )
    layers = [layer("sky", _band(-_FAR, 3.0), sky)]
    if rng.random() < 0.5:
        x = rng.uniform(0.0, ASPECT)
        for _ in range(int(rng.integers(2, 5))):
            layers += still.tree(rng, x, kerb - 0.02, rng.uniform(0.3, 0.45))
            x += rng.uniform(0.08, 0.2)
    left = -0.4 + rng.uniform(0, 0.2)
    while left < ASPECT + 0.4:
        width = rng.uniform(0.16, 0.42)
        if rng.random() < 0.78:
            top = kerb - rng.uniform(0.2, 0.46)
            layers += still.building(rng, left, left + width, top, kerb, weather.horizon)
        elif rng.random() < 0.5:
            layers += still.hedge(rng, left, left + width, kerb)
        left += width
    return layers


def _ground(rng: np.random.Generator, kerb: float, road: float, near: float) -> list[Layer]:
    stone = pick(rng, ((0.66, 0.64, 0.61), (0.72, 0.66, 0.58), (0.56, 0.57, 0.60)), 0.04)
    size = (rng.uniform(4, 7) * PIXEL, rng.uniform(8, 14) * PIXEL)
    flags = Masonry(stone, size, 0.7 * PIXEL, 0.08, 0.85, int(rng.integers(64)))
    tar = pick(rng, ((0.36, 0.37, 0.40), (0.46, 0.46, 0.47), (0.30, 0.30, 0.33)), 0.03)
    layers = [
        layer("pavement", _band(kerb, road), flags),
        layer("road", _band(road, 3.0), Plain(tar, 0.10, 55, rng.uniform(0, 60))),
    ]
    middle, paint = (road + near) / 2, Plain((0.86, 0.85, 0.80), 0.08, 40)
    if rng.random() < 0.7:
        length, x = rng.uniform(0.10, 0.18), -_FAR + rng.uniform(0, 0.3)
        while x < ASPECT + _FAR:
            dash = Rectangle((middle - PIXEL, x, middle + PIXEL, x + length))
            layers.append(layer("road", dash, paint))
            x += 2 * length
    edge = Plain(pick(rng, ((0.78, 0.77, 0.74),), 0.03), 0.05)
    layers.append(layer("pavement", _band(road - 1.5 * PIXEL, road + 0.5 * PIXEL), edge))
    layers.append(layer("pavement", _band(near, 3.0), flags))
    layers.append(layer("pavement", _band(near, near + 2 * PIXEL), edge))
    return layers


def _far_pavement(
    rng: np.random.Generator, numbers: Iterator[int], kerb: float, road: float
) -> list[Layer]:
    layers: list[Layer] = []
    if rng.random() < 0.7:
        left = rng.uniform(-0.1, 0.7 * ASPECT)
        layers += still.fence(rng, left, left + rng.uniform(0.35, 0.9), kerb + 0.025)
    things = [functools.partial(_stroller, rng, numbers, kerb, road)] * int(rng.integers(1, 5))
    things += [functools.partial(_planted, rng, kerb)] * int(rng.integers(0, 3))
    things += [functools.partial(_signed, rng, road)] * int(rng.integers(1, 4))
    things += [functools.partial(_lit, rng, road)] * int(rng.integers(1, 3))
    if rng.random() < 0.7:
        things.append(functools.partial(_wired, rng, road))
    for i in rng.permutation(len(things)):
        layers += things[i]()
    return layers


def _anywhere(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.02, ASPECT - 0.02))


def _stroller(
    rng: np.random.Generator, numbers: Iterator[int], kerb: float, road: float
) -> list[Layer]:
    base = rng.uniform(kerb + 0.03, road - 0.01)
    if rng.random() < 0.3:
        layers = moving.bicycle(rng, _anywhere(rng), base, rng.uniform(0.03, 0.036), False)
    else:
        layers = moving.person(rng, _anywhere(rng), base, rng.uniform(0.13, 0.17))
    return _thing(numbers, layers)


def _planted(rng: np.random.Generator, kerb: float) -> list[Layer]:
    return still.tree(rng, _anywhere(rng), kerb + 0.05, rng.uniform(0.3, 0.48))


def _signed(rng: np.random.Generator, road: float) -> list[Layer]:
    height, size = rng.uniform(0.15, 0.24), rng.uniform(0.026, 0.042)
    return still.sign(rng, _anywhere(rng), road - 0.02, height, size)


def _lit(rng: np.random.Generator, road: float) -> list[Layer]:
    return still.lamp(rng, _anywhere(rng), road - 0.015, rng.uniform(0.32, 0.46))


def _wired(rng: np.random.Generator, road: float) -> list[Layer]:
    first, gap = rng.uniform(-0.5, 0.1), rng.uniform(0.55, 0.9)
    xs = [first + gap * k for k in range(4)]
    return still.power_line(rng, xs, road - 0.025, rng.uniform(0.04, 0.16))


def _traffic(
    rng: np.random.Generator, numbers: Iterator[int], road: float, near: float
) -> list[Layer]:
    layers: list[Layer] = []
    for lane, scale in ((0.36, 0.115), (0.86, 0.14)):
        base = road + lane * (near - road)
        x = rng.uniform(-0.1, 0.5)
        while x < ASPECT:
            kind = rng.random()
            if kind < 0.55:
                car = moving.car(rng, x, base, scale * rng.uniform(0.92, 1.1))
                layers += _thing(numbers, car)
            elif kind < 0.75:
                radius = 0.3 * scale * rng.uniform(0.95, 1.1)
                bicycle = moving.bicycle(rng, x, base, radius, rng.random() < 0.75)
                layers += _thing(numbers, bicycle)
            x += rng.uniform(0.35, 0.7)
    return layers


def _foreground(rng: np.random.Generator, numbers: Iterator[int], near: float) -> list[Layer]:
    layers: list[Layer] = []
    if rng.random() < 0.35:
        height = rng.uniform(0.24, 0.34)
        x, base = _anywhere(rng), near + rng.uniform(0.02, 0.1)
        layers += _thing(numbers, moving.person(rng, x, base, height))
    if rng.random() < 0.4:
        layers += still.lamp(rng, _anywhere(rng), near + 0.05, rng.uniform(0.7, 1.1))
    if rng.random() < 0.25:
        height, size = rng.uniform(0.4, 0.6), rng.uniform(0.05, 0.07)
        layers += still.sign(rng, _anywhere(rng), near + 0.04, height, size)
    return layers
