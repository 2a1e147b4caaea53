"""Coordinates and the cells that answer them."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.layers import (
    GridAxis,
    GridQuery,
    GridSubset,
    PointQuery,
    check_coordinates,
    coordinate_taps,
)
from ifa_d2.layers.queries import split, tiles

counts = st.integers(1, 5000)


@given(n=counts, m=counts)
def test_regular_cells_are_integer_division(n, m):
    taps = GridAxis.centers(n).taps(m, ensemble=False)
    j = torch.arange(n)
    assert torch.equal(taps.cells[0], (2 * j + 1) * m // (2 * n))
    assert taps.offsets.abs().max() <= 1
    assert GridAxis.centers(n).on_cells(m) == (n == m)


@given(
    begin=st.integers(-50, 5000),
    span=st.integers(1, 5000),
    size=st.integers(1, 300),
    extent=st.integers(1, 9000),
    m=st.integers(1, 300),
    scale=st.sampled_from([1, 2**40, 10**30]),
)
def test_window_taps_are_exact(begin, span, size, extent, m, scale):
    """Of integers that 64 bits do not hold too: a window of a scale-th of those pixels."""
    begin, extent = begin * scale // 3, extent * scale // 3 + 1
    axis = GridAxis.window(begin, begin + span, size, extent)
    nearest, both = axis.taps(m, ensemble=False), axis.taps(m, ensemble=True)
    for j in (0, size // 2, size - 1):
        y = (begin + Fraction(2 * j + 1, 2 * size) * span) / extent
        cell = min(max(y * m // 1, 0), m - 1)
        assert nearest.cells[0, j] == cell
        offset = float(2 * y * m - 2 * cell - 1)
        assert float(nearest.offsets[0, j]) == pytest.approx(offset, rel=1e-15, abs=1e-15)
        lower = min(max((y * m - Fraction(1, 2)) // 1, 0), m - 1)
        assert both.cells[:, j].tolist() == [lower, min(lower + 1, m - 1)]
        weight = min(max(float(y * m - Fraction(1, 2) - lower), 0), 1)
        assert float(both.weights[1, j]) == pytest.approx(weight, abs=1e-12)
    assert torch.allclose(both.weights.sum(0), torch.ones(size, dtype=torch.float64))


@pytest.mark.parametrize("size", [2**28 + 1, 2**30 + 1, 2**31 - 1])
@pytest.mark.parametrize("ensemble", [False, True])
def test_the_far_end_of_long_axes_is_exact(size, ensemble):
    """3 of 7 parts of an axis, from 1 on: numerators of 4 * size * 7 times the cells."""
    m = 2**26 + 1
    taps = GridAxis.window(1, 4, size, 7)[size - 3 : size].taps(m, ensemble)
    for k, j in enumerate(range(size - 3, size)):
        y = (1 + Fraction(2 * j + 1, 2 * size) * 3) / 7
        lower = (y * m - Fraction(int(ensemble), 2)) // 1
        assert taps.cells[:, k].tolist() == [lower, lower + 1][: 1 + ensemble]
        assert float(taps.offsets[0, k]) == pytest.approx(float(2 * (y * m - lower) - 1), abs=1e-9)


def test_coordinates_of_long_axes():
    axis = GridAxis.window(10**40, 10**40 + 2, 5, 10**40 + 7)
    assert axis.coordinates.tolist() == [1.0] * 5
    axis = GridAxis.window(1, 4, 5, 7)
    expected = [(1 + 3 * (2 * j + 1) / 10) / 7 for j in range(5)]
    assert axis.coordinates.tolist() == pytest.approx(expected, abs=1e-15)


@given(
    begin=st.integers(-20, 300),
    length=st.integers(1, 300),
    size=st.integers(1, 300),
    extent=st.integers(1, 300),
    m=st.integers(1, 300),
    ensemble=st.booleans(),
)
def test_span_is_the_first_and_last_tap(begin, length, size, extent, m, ensemble):
    axis = GridAxis.window(begin, begin + length, size, extent)
    cells = axis.taps(m, ensemble).cells
    assert axis.span(m, ensemble) == (int(cells.min()), int(cells.max()))


@given(n=counts, m=st.integers(1, 500), start=st.integers(0, 4999), length=st.integers(1, 400))
def test_slices_are_parts(n, m, start, length):
    axis = GridAxis.centers(n)
    part, whole = axis[start : start + length], axis.taps(m, ensemble=True)
    taps = part.taps(m, ensemble=True)
    assert len(part) == len(range(n)[start : start + length])
    assert torch.equal(taps.cells, whole.cells[:, start : start + length])
    assert torch.equal(taps.offsets, whole.offsets[:, start : start + length])


@given(m=st.integers(1, 300), window=st.integers(1, 300), first=st.integers(0, 299))
def test_axes_on_cells_are_known(m, window, first):
    axis = GridAxis.window(first, first + window, window, m)
    for ensemble in (False, True):
        taps = axis.taps(m, ensemble)
        holds = torch.equal(taps.cells[0], taps.cells[0, 0] + torch.arange(window))
        holds = holds and bool((taps.offsets[0] == 0).all())
        assert axis.on_cells(m) == holds


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(1, 1000))
def test_any_coordinates(values, m):
    points = torch.tensor(values, dtype=torch.float64)
    taps = coordinate_taps(points, m, False, torch.zeros(()))
    for y, cell, offset in zip(values, taps.cells[0], taps.offsets[0], strict=True):
        assert cell == min(int(y * m), m - 1)
        assert float(offset) == pytest.approx(2 * y * m - 2 * int(cell) - 1, abs=1e-9)


@pytest.mark.parametrize("ensemble", [False, True])
def test_points_share_the_rule_of_axes(ensemble):
    axis = GridAxis.window(3, 40, 29, 64)  # of 64ths and 58ths: in no cell's border of 7
    taps = coordinate_taps(axis.coordinates, 7, ensemble, torch.tensor(37 / 29 / 64))
    exact = axis.taps(7, ensemble)
    assert torch.equal(taps.cells, exact.cells)
    assert torch.allclose(taps.offsets, exact.offsets, rtol=0, atol=1e-12)
    assert torch.allclose(taps.footprints, exact.footprints)


def count_parts(query, parts):
    """How often each sample of a query is in a part, and the parts' largest number of samples."""
    count, most = torch.zeros(query.size), 0
    for place in parts:
        count[place] += 1
        most = max(most, count[place].numel())
    return count, most


@given(
    size=st.one_of(
        st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.integers(1, 200))
    ),
    limit=st.integers(1, 300),
)
def test_split_and_tiles_cover_a_query_once(size, limit):
    query = GridQuery.regular(*size) if len(size) == 2 else PointQuery(torch.rand(1, *size, 2))
    parts = split(query, lambda part: torch.Size(part.size).numel() <= limit)
    places = [
        tuple(slice(o, o + n) for o, n in zip(origin, part.size, strict=True))
        for origin, part in parts
    ]
    for cut in (places, list(tiles(size, limit))):
        count, most = count_parts(query, cut)
        assert torch.equal(count, torch.ones(size))
        assert most <= limit


def test_parts_of_a_split_are_the_query_there():
    query = GridQuery.window((1, 2, 9, 11), (23, 31), (12, 12))
    for (top, left), part in split(query, lambda part: sum(part.size) < 9):
        height, width = part.size
        assert torch.equal(part.rows.coordinates, query.rows.coordinates[top : top + height])
        assert torch.equal(part.cols.coordinates, query.cols.coordinates[left : left + width])


def test_a_subset_is_cropped_to_its_samples():
    query = GridQuery.regular(20, 30)
    index = torch.tensor([[7, 21], [5, 9], [6, 8]])
    part = GridSubset(query, index).cropped()
    assert part.size == (3,) and part.grid.size == (3, 14)
    assert torch.equal(
        part.grid.rows.coordinates[part.index[:, 0]], query.rows.coordinates[index[:, 0]]
    )
    assert torch.equal(
        part.grid.cols.coordinates[part.index[:, 1]], query.cols.coordinates[index[:, 1]]
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GridQuery.regular(0, 3), "size.*0"),
        (lambda: GridQuery.window((3, 0, 3, 4), (2, 2), (8, 8)), "end.*3"),
        (lambda: GridQuery.window((5, 0, 3, 4), (2, 2), (8, 8)), "end"),
        (lambda: GridQuery.window((0, 0, 3, 4), (2, 2), (0, 8)), "extent"),
        (lambda: PointQuery(torch.zeros(3, 2)), "shape"),
        (lambda: PointQuery(torch.zeros(1, 3, 2, dtype=torch.int64)), "floating point"),
        (lambda: GridSubset(GridQuery.regular(2, 2), torch.zeros(3, 2)), "int64"),
        (lambda: GridSubset(GridQuery.regular(2, 2), torch.zeros(3).long()), "shape"),
        (lambda: check_coordinates("points", torch.tensor(float("inf"))), "points.*finite"),
    ],
)
def test_bad_queries(build, words):
    with pytest.raises(ValueError, match=words):
        build()
