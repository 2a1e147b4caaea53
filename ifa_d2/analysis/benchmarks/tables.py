"""Benchmark tables in GitHub's Markdown."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate


def github_table(rows: Sequence[dict[str, str]]) -> str:
    """Format rows as a Markdown table; their keys are the column heads."""
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def number(value: float | None, digits: int) -> str:
    """Format a number with so many decimals; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def pixels(size: Sequence[Any]) -> str:
    """Format a size in pixels as "512x1024"."""
    return "x".join(map(str, size))
