"""Tables of benchmarks as GitHub shows them."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate


def github_table(rows: Sequence[dict[str, str]]) -> str:
    """A table of rows, their keys its heads."""
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def number(value: float | None, digits: int) -> str:
    """A figure with so many decimals; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def pixels(size: Sequence[Any]) -> str:
    """A size in pixels, "512x1024"."""
    return "x".join(map(str, size))
