"""Moving things of a street: cars, people, bicycles.

Each function gives the layers of one thing, from back to front, in scene units (geometry.py).
"""

from collections.abc import Sequence

import numpy as np

from .geometry import Ellipse, Point, Polygon, Ring, Stroke, Union
from .paint import Plain
from .palette import PIXEL, SKINS, VIVID, Layer, layer, pick


def car(rng: np.random.Generator, x: float, base: float, scale: float) -> list[Layer]:
    """A saloon, hatchback or van from the side, its wheels on `base`, with its shadow."""
    s, way = scale, rng.choice((-1.0, 1.0))
    van = rng.random() < 0.25

    def at(points: Sequence[Point]) -> tuple[Point, ...]:
        return tuple((base - s * up, x + way * s * along) for up, along in points)

    body = [(0.16, -0.98), (0.46, -1.0), (0.54, -0.92), (0.52, 0.72), (0.40, 0.98), (0.16, 1.0)]
    roof = rng.uniform(0.80, 0.92)
    tail, rear = rng.uniform(-0.9, -0.6), rng.uniform(-0.62, -0.4)
    cabin = [(0.5, tail), (roof, rear), (roof, 0.12), (0.5, 0.56)]
    glass = [(0.54, tail + 0.1), (roof - 0.07, rear + 0.04), (roof - 0.07, 0.08), (0.54, 0.44)]
    if van:
        roof = rng.uniform(1.0, 1.2)
        cabin = [(0.4, -1.0), (roof, -0.96), (roof, 0.42), (0.5, 0.8)]
        glass = [(0.6, 0.1), (roof - 0.12, 0.1), (roof - 0.12, 0.36), (0.6, 0.62)]
    paint = Plain(pick(rng, VIVID), 0.04, 30, 0, ((base - s, base - 0.1 * s), 0.25))
    dark = Plain((0.10, 0.10, 0.11), 0.05)
    shadow = Ellipse((base - 0.01, x), (0.018, 1.08 * s))
    hull = Union((Polygon(at(body)), Polygon(at(cabin))))
    layers = [
        layer("road", shadow, Plain((0.17, 0.17, 0.19), 0.15, 50)),
        layer("car", hull, paint),
        layer("car", Polygon(at(glass)), Plain(pick(rng, ((0.24, 0.29, 0.35),)), 0.1, 20)),
        layer("car", Stroke(at(((0.5, -0.2), (roof - 0.02, -0.2))), 0.05 * s), paint),
        layer("car", Ellipse(at(((0.42, 0.92),))[0], (0.06 * s, 0.05 * s)), Plain((1, 0.95, 0.7))),
        layer(
            "car", Ellipse(at(((0.43, -0.95),))[0], (0.06 * s, 0.04 * s)), Plain((0.8, 0.1, 0.1))
        ),
    ]
    for along in (-0.6, 0.6):
        (wheel,) = at(((0.19, along),))
        layers.append(layer("car", Ellipse(wheel, (0.2 * s, 0.2 * s)), dark))
        layers.append(layer("car", Ellipse(wheel, (0.1 * s, 0.1 * s)), Plain((0.68, 0.68, 0.7))))
    return layers


def person(rng: np.random.Generator, x: float, base: float, height: float) -> list[Layer]:
    """A person who walks or stands; `height` from sole to crown."""
    h, stride = height, rng.uniform(0.0, 0.16) * rng.choice((-1.0, 1.0))
    hip, neck = (base - 0.47 * h, x), (base - 0.80 * h, x + 0.02 * h)
    legs = Union(
        (
            Stroke((hip, (base, x - stride * h)), 0.105 * h),
            Stroke((hip, (base, x + stride * h)), 0.105 * h),
        )
    )
    swing = 1.2 * stride + rng.uniform(0.05, 0.1)
    hands = ((base - 0.5 * h, x - swing * h), (base - 0.5 * h, x + swing * h))
    arms = Union(tuple(Stroke((neck, hand), 0.075 * h) for hand in hands))
    torso = Stroke(((hip[0] - 0.02 * h, x), (base - 0.74 * h, x + 0.01 * h)), 0.20 * h)
    head = Ellipse((base - 0.91 * h, x + 0.02 * h), (0.085 * h, 0.07 * h))
    coat, skin = pick(rng, VIVID), pick(rng, SKINS, 0.03)
    hair = Ellipse((base - 0.945 * h, x + 0.015 * h), (0.055 * h, 0.075 * h))
    layers = [
        layer("person", legs, Plain(pick(rng, VIVID), 0.08)),
        layer("person", Union((torso, arms)), Plain(coat, 0.10, 40)),
        layer("person", head, Plain(skin, 0.03)),
        layer("person", hair, Plain(pick(rng, ((0.2, 0.14, 0.1), (0.55, 0.4, 0.2))), 0.05)),
    ]
    if rng.random() < 0.15:
        layers += _umbrella(rng, x, base, h)
    return layers


def _umbrella(rng: np.random.Generator, x: float, base: float, h: float) -> list[Layer]:
    rim, reach = base - 1.02 * h, 0.34 * h
    arc = [(rim - 0.2 * h * (1 - t * t), x + t * reach) for t in np.linspace(-1, 1, 9).tolist()]
    return [layer("person", Polygon(tuple(arc)), Plain(pick(rng, VIVID), 0.05))]


def bicycle(
    rng: np.random.Generator, x: float, base: float, scale: float, ridden: bool
) -> list[Layer]:
    """Two rings and a thin frame, perhaps with a rider; `scale` is a wheel's radius."""
    s, way = scale, rng.choice((-1.0, 1.0))
    width = max(1.3 * PIXEL, 0.17 * s)

    def at(up: float, along: float) -> Point:
        return base - s * up, x + way * s * along

    back, front, pedals = at(1, -1.35), at(1, 1.35), at(0.95, -0.1)
    saddle, grip = at(2.15, -0.5), at(2.3, 0.95)
    wheels = Union((Ring(back, s, width), Ring(front, s, width)))
    frame = Union(
        (
            Stroke((back, pedals, at(1.95, 0.8), saddle, pedals), width),
            Stroke((back, saddle), width),
            Stroke((front, at(1.95, 0.8), grip, at(2.4, 0.6)), width),
            Stroke((at(2.15, -0.8), at(2.15, -0.3)), 1.3 * width),
        )
    )
    layers = [
        layer("bicycle", wheels, Plain(pick(rng, ((0.13, 0.13, 0.14),), 0.04), 0.04)),
        layer("bicycle", frame, Plain(pick(rng, VIVID), 0.04)),
    ]
    if ridden:
        shoulder = at(4.1, 0.2)
        limbs = Union(
            (
                Stroke((saddle, at(1.7, 0.35), at(0.9, 0.1)), 0.42 * s),
                Stroke((shoulder, at(3.0, 0.75), grip), 0.32 * s),
            )
        )
        coat, skin = Plain(pick(rng, VIVID), 0.08, 40), Plain(pick(rng, SKINS, 0.03), 0.03)
        layers += [
            layer("person", limbs, Plain(pick(rng, VIVID), 0.06)),
            layer("person", Stroke((saddle, shoulder), 0.75 * s), coat),
            layer("person", Ellipse(at(4.95, 0.4), (0.48 * s, 0.42 * s)), skin),
        ]
    return layers
