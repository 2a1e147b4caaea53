"""Regions hold what they should, and lie in their boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.data.shapes.geometry import (
    Ellipse,
    Foliage,
    Grating,
    Panes,
    Polygon,
    Rectangle,
    Ring,
    Stroke,
    Union,
    simple_parts,
)

REGIONS = {
    "rectangle": Rectangle((0.2, 0.1, 0.7, 0.4)),
    "ellipse": Ellipse((0.5, 0.6), (0.2, 0.3)),
    "ring": Ring((0.5, 0.5), 0.3, 0.05),
    "polygon": Polygon(((0.1, 0.5), (0.9, 0.9), (0.4, 0.5), (0.9, 0.1))),
    "stroke": Stroke(((0.1, 0.1), (0.5, 0.9), (0.9, 0.2)), 0.06),
    "dot": Stroke(((0.5, 0.5), (0.5, 0.5)), 0.5),
    "grating": Grating((0.3, 0.1, 0.6, 0.9), 0.1, 0.02, (0.2, 0.8)),
    "panes": Panes((0.1, 0.1, 0.9, 0.8), (3, 2), (0.6, 0.7), (1, 2), 0.02),
    "foliage": Foliage(((0.4, 0.4), (0.5, 0.6)), (0.2, 0.25), 0.5, 3.0),
    "union": Union((Ellipse((0.3, 0.3), (0.1, 0.1)), Stroke(((0, 1), (1, 0), (0.9, 1)), 0.05))),
}
N = 400
Y, X = np.meshgrid((np.arange(N) + 0.5) / N, (np.arange(N) + 0.5) / N, indexing="ij")


def _share(region) -> float:
    """Area of a region within the unit square."""
    return float(region.contains(Y, X).mean())


@pytest.mark.parametrize("name", REGIONS)
@given(points=st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2)), min_size=20, max_size=40))
def test_nothing_lies_outside_of_the_box(name, points):
    region = REGIONS[name]
    y, x = np.array(points).T
    top, left, bottom, right = region.bounds
    outside = (y < top) | (y > bottom) | (x < left) | (x > right)
    assert not region.contains(y, x)[outside].any()


@pytest.mark.parametrize("name", REGIONS)
def test_simple_parts_make_up_the_region(name):
    region = REGIONS[name]
    whole = np.zeros((N, N), bool)
    for part in simple_parts(region):
        whole |= part.contains(Y, X)
    np.testing.assert_array_equal(whole, region.contains(Y, X))
    assert 0.01 < whole.mean() < 0.9


@pytest.mark.parametrize("name", REGIONS)
def test_a_point_is_judged_alone_as_among_others(name):
    region = REGIONS[name]
    among = region.contains(Y, X)
    for row, column in np.random.default_rng(0).integers(0, N, (50, 2)):
        assert region.contains(Y[row, column], X[row, column]) == among[row, column]


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("rectangle", 0.5 * 0.3),
        ("ellipse", np.pi * 0.2 * 0.3),
        ("ring", 2 * np.pi * 0.3 * 0.05),
        ("polygon", 0.8 * 0.8 / 2 - 0.5 * 0.8 / 2),
        ("dot", np.pi * 0.25**2),
        ("panes", 6 * (0.16 - 0.02) * (0.245 - 2 * 0.02)),
        ("grating", 8 * 0.02 * 0.3 + 2 * 0.02 * (0.8 - 8 * 0.02)),
    ],
)
def test_areas(name, area):
    assert _share(REGIONS[name]) == pytest.approx(area, rel=0.02)


def test_rings_gratings_and_panes_have_holes():
    assert not REGIONS["ring"].contains(np.array(0.5), np.array(0.5))
    assert not REGIONS["grating"].contains(np.array(0.45), np.array(0.15))
    assert not REGIONS["panes"].contains(np.array(0.1 + 0.8 / 6), np.array(0.275))  # the bar
    assert REGIONS["panes"].contains(np.array(0.1 + 0.8 / 6 + 0.03), np.array(0.275))


def test_ragged_foliage_is_smaller_than_its_discs():
    plain = Foliage(((0.4, 0.4), (0.5, 0.6)), (0.2, 0.25), 0.0, 3.0)
    ragged = REGIONS["foliage"]
    assert not (ragged.contains(Y, X) & ~plain.contains(Y, X)).any()
    assert 0.5 * _share(plain) < _share(ragged) < 0.9 * _share(plain)
