"""Levels bound to a first layer, and sums of looked-up rows."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ifa_d2.layers import PointwiseLevel, coordinate_taps
from ifa_d2.layers.levels import BoundLevel, sum_rows


def lookups() -> tuple[list[torch.Tensor], list[tuple[torch.Tensor, torch.Tensor | None]]]:
    """Single rows of one table and two weighted rows of another, for 2 x 12 places."""
    kind = {"dtype": torch.float64, "requires_grad": True}
    tables = [torch.randn(5, 3, **kind), torch.randn(40, 3, **kind)]
    numbers = [torch.randint(5, (1, 2, 12)), torch.randint(40, (2, 2, 12))]
    return tables, [(numbers[0], None), (numbers[1], torch.rand(2, 1, 12, dtype=torch.float64))]


@pytest.mark.parametrize("count", [1, 2])
def test_sums_are_their_definition(count):
    tables, plan = lookups()
    tables, plan = tables[-count:], plan[-count:]
    out = sum_rows(tables, plan)
    expected = sum(
        (table[index] * (1 if weights is None else weights[..., None])).sum(0)
        for table, (index, weights) in zip(tables, plan, strict=True)
    ).flatten(0, 1)
    assert torch.allclose(out, expected)
    probe = torch.randn_like(out)
    ours = torch.autograd.grad((out * probe).sum(), tables)
    theirs = torch.autograd.grad((expected * probe).sum(), tables)
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def bound_level(k: int = 1, terms: int = 1) -> BoundLevel:
    torch.manual_seed(0)
    weight, source = torch.randn(6, 4 * terms, k, k).double(), torch.randn(2, 4, 7, 9).double()
    return BoundLevel(source, weight, torch.randn(6).double(), (7, 9), terms)


@pytest.mark.parametrize("k", [1, 3])
def test_rows_are_a_convolution(k):
    level = bound_level(k)
    expected = F.conv2d(level.source, level.weight, level.bias, padding=k // 2)
    rows = level.bind().rows.view(2, 7, 9, 6).permute(0, 3, 1, 2)
    assert torch.allclose(rows, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_slopes_are_rows_of_their_own(k):
    level = bound_level(k, terms=3)
    rows = level.bind().table().view(2, 7, 9, 3, 6).permute(3, 0, 4, 1, 2)
    for term, (found, weight) in enumerate(zip(rows, level.weight.chunk(3, dim=1), strict=True)):
        bias = level.bias if term == 0 else None  # a cell's value carries it, not its slopes
        expected = F.conv2d(level.source, weight, bias, padding=k // 2)
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    plain = level.without_slopes().bind()
    assert torch.allclose(plain.rows, level.bind().rows[:, :6], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [(0, 6), (2, 4)])
@pytest.mark.parametrize("cols", [(0, 8), (5, 5)])
def test_a_narrow_level_keeps_its_place(rows, cols):
    level, window = bound_level(), (slice(rows[0], rows[1] + 1), slice(cols[0], cols[1] + 1))
    whole = level.bind().rows.view(2, 7, 9, 6)[(slice(None), *window)]
    for part in (level.narrow(rows, cols).bind(), level.bind().narrow(rows, cols)):
        assert part.corner == (rows[0], cols[0]) and part.size == tuple(whole.shape[1:3])
        assert torch.allclose(part.rows, whole.flatten(0, 2))
        twice = part.narrow((rows[1], rows[1]), cols)
        assert torch.allclose(twice.rows, whole[:, -1].flatten(0, 1))


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("on_request", [False, True])
@pytest.mark.parametrize("terms", [1, 3])
def test_sampling_first_is_looking_up(ensemble, on_request, terms):
    level, points = bound_level(terms=terms), torch.rand(2, 11, 2, dtype=torch.float64)
    taps = [
        coordinate_taps(points[..., axis], m, ensemble, torch.zeros(()))
        for axis, m in enumerate(level.shape)
    ]
    if on_request:
        given = PointwiseLevel(
            level.source, torch.randn(4, 4, 1, 1).double(), torch.ones(4).double()
        )
        level = replace(level, source=given)
    bound = level.bind()
    expected = sum_rows([bound.table()], [bound.lookup(*taps)])
    assert torch.allclose(level.sample(*taps), expected, rtol=1e-10, atol=1e-12)
