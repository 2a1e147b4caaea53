"""Extracts of long lists: evenly spread indices, and the first items for a message."""

from collections.abc import Sequence

import numpy as np


def spread_indices(length: int, count: int) -> list[int]:
    """Choose ``count`` evenly spread indices of ``length`` items, or all if there are fewer."""
    count = min(count, length)
    return [index * length // count for index in range(count)]


def join_some(items: Sequence[object] | np.ndarray, limit: int) -> str:
    """Join the first items, and count the rest: "a, b and 3 more"."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + more
