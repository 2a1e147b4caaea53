"""Styles and files of plots."""

import os
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ..choices import PLOT_SUFFIXES
from ..files import atomic_path

_DPI = 150
_COLORS = tuple(f"C{i}" for i in range(10))
_DASHES = ("-", "--", ":", "-.")


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Check that a path's suffix is of a kind of plot that can be written.

    Raises:
        ValueError: it is of none; the message has those that are.
    """
    if Path(path).suffix.lower() not in PLOT_SUFFIXES:
        allowed = ", ".join(PLOT_SUFFIXES)
        raise ValueError(f"a plot must end in one of {allowed}, got {os.fspath(path)!r}")


def line_styles(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Matplotlib options of each name's lines, for every panel of a figure.

    The first ten have Matplotlib's colours, those after them the same in other dashes.

    Raises:
        ValueError: more names than there are styles.
    """
    different = list(dict.fromkeys(names))
    if len(different) > len(_COLORS) * len(_DASHES):
        most = len(_COLORS) * len(_DASHES)
        raise ValueError(f"names must be at most {most} different ones, got {len(different)}")
    return {
        name: {"color": _COLORS[i % len(_COLORS)], "linestyle": _DASHES[i // len(_COLORS)]}
        for i, name in enumerate(different)
    }


def save_plot(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure in the format of the path's suffix, complete or not at all.

    PDF and SVG are vectors; the letters of a PDF are text, in TrueType, as publishers ask for.

    Raises:
        ValueError: see :func:`check_plot_path`.
    """
    check_plot_path(path)
    kind = Path(path).suffix.lower().removeprefix(".")
    with atomic_path(path) as temporary, matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(temporary, dpi=_DPI, format=kind)
