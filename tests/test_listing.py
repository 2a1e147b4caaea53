"""Extracts of long lists."""

import pytest

from ifa_d2.listing import join_some, spread_indices


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(10, 4, [0, 2, 5, 7]), (3, 3, [0, 1, 2]), (3, 9, [0, 1, 2]), (0, 4, []), (7, 1, [0])],
)
def test_spread_indices(length: int, count: int, expected: list[int]) -> None:
    assert spread_indices(length, count) == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), ([1, 2, 3, 4], "1, 2 and 2 more")],
)
def test_join_some(items: list[object], expected: str) -> None:
    assert join_some(items, 2) == expected
