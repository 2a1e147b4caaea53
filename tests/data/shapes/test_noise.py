"""Noise is smooth, repeatable and within [0, 1)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.data.shapes.noise import cell_noise, value_noise


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0, 60))
def test_range_and_smoothness(y, x, phase):
    points = y + np.array([0, 1e-6]), x + np.array([0, 1e-6])
    first, second = value_noise(*points, 10.0, phase)
    assert 0 <= first < 1
    assert abs(first - second) < 1e-3  # at most a few lattice values per cell, 10 cells a unit


def test_it_varies_at_its_frequency():
    x = np.linspace(0, 5, 5000)
    coarse, fine = (value_noise(np.zeros_like(x), x, f) for f in (2.0, 20.0))
    travelled = [np.abs(np.diff(noise)).sum() for noise in (coarse, fine)]
    assert 5 < travelled[1] / travelled[0] < 20
    upright = value_noise(np.zeros_like(x), x, (20.0, 2.0))
    np.testing.assert_array_equal(upright, coarse)


def test_cells_are_independent_and_repeat_after_64():
    row, column = np.indices((64, 64))
    noise = cell_noise(row, column)
    np.testing.assert_array_equal(noise, cell_noise(row - 64, column + 128))
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.1
    assert (cell_noise(row, column, 1) != noise).mean() > 0.99
