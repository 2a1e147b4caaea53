"""Standing things of a street: houses, trees, poles, wires, fences, signs.

Each function gives the layers of one thing, from back to front, in scene units (geometry.py).
"""

import itertools
from collections.abc import Sequence

import numpy as np

from .geometry import (
    Ellipse,
    Foliage,
    Grating,
    Panes,
    Point,
    Polygon,
    Rectangle,
    Region,
    Stroke,
    Union,
)
from .paint import Color, Glass, Leaves, Masonry, Paint, Plain
from .palette import LEAVES, METALS, PIXEL, VIVID, WALLS, Layer, layer, pick


def building(
    rng: np.random.Generator, left: float, right: float, top: float, base: float, light: Color
) -> list[Layer]:
    """A house front from `top` to `base` with roof, windows (some lit) and a door.

    `light` is the colour that its windows mirror: the sky's, so that colour alone does not tell
    a window from the sky.
    """
    wall = pick(rng, WALLS)
    phase = int(rng.integers(64))
    brick = (rng.uniform(2.5, 4.0) * PIXEL, rng.uniform(6, 9) * PIXEL)
    paint: Paint = Masonry(wall, brick, 0.7 * PIXEL, 0.10, 0.84, phase)
    if rng.random() < 0.45:
        paint = Plain(wall, 0.10, rng.uniform(8, 40), phase, ((top, base), 0.15))
    layers = [layer("building", _house_outline(rng, left, right, top, base), paint)]

    floors = max(1, round((base - top) / rng.uniform(0.11, 0.15)))
    columns = max(1, round((right - left) / rng.uniform(0.09, 0.14)))
    storey = (base - top) / floors
    margin = 0.12 * (right - left) / columns
    box = (top + 0.1 * storey, left + margin, base - 0.2 * storey, right - margin)
    fill = (rng.uniform(0.5, 0.68), rng.uniform(0.45, 0.68))
    bars = (int(rng.integers(2)), int(rng.integers(3)))
    panes = Panes(box, (floors, columns), fill, bars, rng.uniform(1.0, 1.5) * PIXEL)
    glass = Glass(box, (floors, columns), light, rng.uniform(0.05, 0.35), phase)
    layers.append(layer("window", panes, glass))

    middle = left + (right - left) * (rng.integers(columns) + 0.5) / columns
    width = rng.uniform(0.028, 0.04)
    door = Rectangle((base - 0.105, middle - width, base, middle + width))
    layers.append(layer("building", door, Plain(pick(rng, VIVID), 0.08, 30, phase)))
    if rng.random() < 0.5:
        band = Rectangle((top - 1.5 * PIXEL, left, top + 1.5 * PIXEL, right))
        layers.append(layer("building", band, Plain(pick(rng, (wall,)), 0.05)))
    return layers


def _house_outline(
    rng: np.random.Generator, left: float, right: float, top: float, base: float
) -> Region:
    wall = Rectangle((top, left, base + 0.02, right))
    kind = rng.integers(4)
    if kind == 0:
        return wall
    if kind == 1:  # a gable
        peak = top - rng.uniform(0.05, 0.12)
        return Union((wall, Polygon(((top, left), (peak, (left + right) / 2), (top, right)))))
    if kind == 2:  # a mansard roof
        inset = rng.uniform(0.02, 0.05)
        corners = ((top, left), (top - 0.06, left + inset), (top - 0.06, right - inset))
        return Union((wall, Polygon((*corners, (top, right)))))
    at = left + rng.uniform(0.1, 0.7) * (right - left)
    chimney = Rectangle((top - rng.uniform(0.04, 0.08), at, top + 0.01, at + 0.035))
    return Union((wall, chimney))


def tree(rng: np.random.Generator, x: float, base: float, size: float) -> list[Layer]:
    """A trunk, painted like a pole, and a ragged crown with gaps; `size` is the tree's height."""
    lean = rng.uniform(-0.03, 0.03)
    middle = (base - 0.68 * size, x + lean)
    trunk = Stroke(((base, x), middle), rng.uniform(0.05, 0.075) * size)
    count = int(rng.integers(6, 11))
    spread = size * rng.uniform(0.16, 0.26)
    centers = tuple(
        (float(cy), float(cx))
        for cy, cx in np.array(middle)
        + rng.normal(0, 1, (count, 2)) * (0.55 * spread, spread) * 0.7
    )
    radii = tuple((size * rng.uniform(0.14, 0.23, count)).tolist())
    crown = Foliage(centers, radii, rng.uniform(0.45, 0.7), rng.uniform(0, 60))
    leaves = Leaves(pick(rng, LEAVES, 0.05), crown.bounds, rng.uniform(0, 60))
    bark = Plain(pick(rng, METALS), 0.2, 45, rng.uniform(0, 60))
    return [layer("tree", trunk, bark), layer("tree", crown, leaves)]


def hedge(rng: np.random.Generator, left: float, right: float, base: float) -> list[Layer]:
    """A low row of bushes from `left` to `right`."""
    count = max(3, round((right - left) / 0.04))
    xs = np.linspace(left, right, count) + rng.uniform(-0.01, 0.01, count)
    radii = rng.uniform(0.03, 0.045, count)
    centers = tuple((base - 0.02, float(x)) for x in xs)
    bush = Foliage(centers, tuple(radii.tolist()), 0.4, rng.uniform(0, 60))
    return [layer("tree", bush, Leaves(pick(rng, LEAVES, 0.05), bush.bounds, rng.uniform(0, 60)))]


def lamp(rng: np.random.Generator, x: float, base: float, height: float) -> list[Layer]:
    """A street lamp: a thin post with an arm."""
    width = rng.uniform(1.4, 2.4) * PIXEL
    top, side = base - height, rng.choice((-1.0, 1.0))
    reach = side * rng.uniform(0.05, 0.09)
    arm = ((base, x), (top + 0.03, x), (top, x + 0.3 * reach), (top, x + reach))
    head = Ellipse((top + 0.006, x + reach), (0.009, 0.020))
    metal = Plain(pick(rng, METALS), 0.08, 50, rng.uniform(0, 60))
    glow = Plain((0.98, 0.93, 0.78), 0.02)
    return [
        layer("pole", Stroke(arm, width), metal),
        layer("pole", Stroke(((base, x), (base - 0.05, x)), 1.7 * width), metal),
        layer("pole", head, glow if rng.random() < 0.5 else metal),
    ]


def power_line(
    rng: np.random.Generator, xs: Sequence[float], base: float, top: float
) -> list[Layer]:
    """Poles with cross-arms at `xs`, and two or three wires that sag between them."""
    width = rng.uniform(2.0, 3.2) * PIXEL
    wood = Plain(pick(rng, METALS), 0.15, 40, rng.uniform(0, 60))
    heights = [top + 0.03 + 0.045 * k for k in range(int(rng.integers(2, 4)))]
    sag = rng.uniform(0.02, 0.07)
    thickness = rng.uniform(1.1, 1.8) * PIXEL
    black = Plain(pick(rng, ((0.12, 0.12, 0.14), (0.25, 0.24, 0.24)), 0.03), 0.02)
    along = np.linspace(0, 1, 13)
    wires = []
    for height in heights:
        points: list[Point] = []
        for start, stop in itertools.pairwise(xs):
            drop = height + 4 * sag * along * (1 - along)
            span = zip(drop.tolist(), (start + (stop - start) * along).tolist(), strict=True)
            points.extend(span)
        wires.append(layer("wire", Stroke(tuple(points), thickness), black))
    poles = []
    for x in xs:
        arms = [Stroke(((h, x - 0.035), (h, x + 0.035)), 1.6 * PIXEL) for h in heights[:2]]
        post = Stroke(((base, x), (top, x)), width)
        poles.append(layer("pole", Union((post, *arms)), wood))
    return wires + poles


def fence(rng: np.random.Generator, left: float, right: float, base: float) -> list[Layer]:
    """A railing with gaps."""
    height = rng.uniform(0.065, 0.10)
    width = rng.uniform(1.5, 2.3) * PIXEL
    rails = (0.12, 0.85) if rng.random() < 0.6 else (0.15, 0.5, 0.85)
    pitch = rng.uniform(5.0, 8.0) * PIXEL
    grating = Grating((base - height, left, base, right), pitch, width, rails)
    paint = Plain(pick(rng, (*METALS, (0.9, 0.9, 0.88))), 0.06)
    return [layer("fence", grating, paint)]


def sign(
    rng: np.random.Generator, x: float, base: float, height: float, size: float
) -> list[Layer]:
    """A traffic sign of one of five shapes on a thin post; `size` is half of its width."""
    y = base - height
    post = Stroke(((base, x), (y, x)), rng.uniform(1.3, 1.9) * PIXEL)
    layers = [layer("pole", post, Plain(pick(rng, METALS), 0.05))]
    board, field = pick(rng, VIVID, 0.04), pick(rng, ((0.95, 0.95, 0.92), *VIVID[:3]), 0.03)
    outer, inner = (_plate(int(kind), y, x, s) for kind, s in _two(rng.integers(5), size))
    layers.append(layer("sign", outer, Plain(board, 0.04)))
    if rng.random() < 0.8:
        layers.append(layer("sign", inner, Plain(field, 0.04)))
    if rng.random() < 0.5:
        mark = Stroke(((y - 0.3 * size, x), (y + 0.3 * size, x)), 0.3 * size)
        layers.append(layer("sign", mark, Plain(board, 0.04)))
    return layers


def _two(kind: int, size: float) -> tuple[tuple[int, float], tuple[int, float]]:
    return (kind, size), (kind, 0.62 * size)


def _plate(kind: int, y: float, x: float, s: float) -> Region:
    """Disc, warning triangle, square, diamond or give-way triangle of half width `s`."""
    return (
        Ellipse((y, x), (s, s)),
        Polygon(((y - s, x), (y + 0.8 * s, x + 1.05 * s), (y + 0.8 * s, x - 1.05 * s))),
        Rectangle((y - 0.85 * s, x - 0.85 * s, y + 0.85 * s, x + 0.85 * s)),
        Polygon(((y - 1.15 * s, x), (y, x + 1.15 * s), (y + 1.15 * s, x), (y, x - 1.15 * s))),
        Polygon(((y + s, x), (y - 0.8 * s, x + 1.05 * s), (y - 0.8 * s, x - 1.05 * s))),
    )[kind]
