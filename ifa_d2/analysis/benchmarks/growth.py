"""Growth of the cost of a field's answers with the size of the request.

The field is that of the R-50 head of the paper's Table 1 over random levels of one picture, which
are there before the clock starts: only the asking is measured. Grids are asked for labels
(:meth:`SegmentationField.labels`, which makes no tensor of all logits), points for logits
(:meth:`SegmentationField.at`).

Memory is given twice, each time beyond the levels and the answer itself:

- ``peak_mib``: the process's resident memory at its highest while the timed calls ran, which is
  free to watch even for calls of minutes and sees what libraries allocate by themselves. It counts
  pages, so a few MiB more or less say nothing.
- ``tensor_mib``: bytes of tensors alone, exact, from one more call under the profiler; None for
  calls of more than 15 seconds.

On a GPU both are bytes of tensors there. Where the system tells no resident memory, ``peak_mib`` is
bytes of tensors as well.
"""

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import instantiate
from torch import Tensor

from ...config import get_config
from ...layers import ImplicitAlignment
from ...modeling import SegmentationField
from ...visualization import save_plot
from ..measure import fit_exponent, peak_memory, timed, watch_memory
from .tables import github_table, number, pixels

_RECIPE = "cityscapes/ifa_r50.py"
_FINEST_STRIDE = 4
_STRIDE_RATIO = 2  # of the head's levels
# Calls beyond the first are not made once those before took this long.
_LONG_SECONDS = 10.0
_PROFILED_SECONDS = 15.0


def run_growth(
    *,
    input_size: tuple[int, int],
    grids: Sequence[tuple[float, int]],
    stride_ratios: Sequence[int],
    points: Sequence[int],
    repeats: int,
    device: str,
) -> dict[str, Any]:
    """Measure time and memory by megapixels and classes, stride ratio, and points.

    Args:
        input_size: (height, width) in pixels of the picture the levels are of.
        grids: megapixels of the answer and number of classes.
        stride_ratios: of one level's stride to that of the next finer one, the finest being 4;
            asked at the picture's own size, with the classes of the first grid.
        points: how many are asked, with the classes of the first grid.
        repeats: timed calls; a call of more than 10 seconds is made once.
        device: where to run.

    Returns:
        ``rows`` for the grids, ``stride_ratios``, ``points`` and ``exponents``, as in
        :func:`growth_tables`.
    """
    classes = grids[0][1]
    alignment = _alignment(classes, device)
    levels = _random_levels(alignment, input_size, _STRIDE_RATIO, device)
    rows = []
    for megapixels, num_classes in grids:
        field = SegmentationField(_alignment(num_classes, device), levels, input_size)
        size = _output_size(megapixels, input_size)
        row = {"megapixels": megapixels, "classes": num_classes, "size": list(size)}
        rows.append(row | _measure_labels(field, size, repeats, device))
    ratio_rows = []
    for ratio in stride_ratios:
        ratio_levels = _random_levels(alignment, input_size, ratio, device)
        field = SegmentationField(alignment, ratio_levels, input_size)
        cells = sum(level[0, 0].numel() for level in ratio_levels)
        row = {"stride_ratio": ratio, "cells": cells, "classes": classes, "size": list(input_size)}
        ratio_rows.append(row | _measure_labels(field, input_size, repeats, device))
    field = SegmentationField(alignment, levels, input_size)
    point_rows = [
        {"points": count, "classes": classes} | _measure_points(field, count, repeats, device)
        for count in points
    ]
    result = {
        "input": list(input_size),
        "rows": rows,
        "stride_ratios": ratio_rows,
        "points": point_rows,
    }
    return result | {"exponents": _exponents(result)}


def _alignment(num_classes: int, device: str) -> ImplicitAlignment:
    config = get_config(_RECIPE).model.sem_seg_head
    config.levels.norm = "BN"
    config.aux_heads = []
    config.num_classes = num_classes
    return instantiate(config).alignment.to(device).eval()


def _random_levels(
    alignment: ImplicitAlignment, input_size: tuple[int, int], ratio: int, device: str
) -> list[Tensor]:
    levels = []
    for i, channels in enumerate(alignment.in_channels):
        stride = _FINEST_STRIDE * ratio**i
        level = torch.randn(1, channels, *(-(-side // stride) for side in input_size))
        levels.append(level.to(device, memory_format=torch.channels_last))
    return levels


def _output_size(megapixels: float, input_size: tuple[int, int]) -> tuple[int, int]:
    """Smallest size of the picture's shape with at least so many pixels."""
    queries = megapixels * 1e6
    height = math.ceil(math.sqrt(queries * input_size[0] / input_size[1]))
    return height, math.ceil(queries / height)


def _measure_labels(
    field: SegmentationField, size: tuple[int, int], repeats: int, device: str
) -> dict[str, Any]:
    out = torch.ones(size, dtype=field.label_dtype)  # written, so that its pages are resident
    field.labels(size=(min(size[0], 128), min(size[1], 2048)))  # a warm-up of a few tiles

    def ask() -> None:
        field.labels(size=size, out=out)

    return _measure(ask, repeats, device, beyond=0)


def _measure_points(
    field: SegmentationField, count: int, repeats: int, device: str
) -> dict[str, Any]:
    points = torch.rand(count, 2, dtype=torch.float64, device=device)
    field.at(points[:1024])

    def ask() -> None:
        field.at(points)

    return _measure(ask, repeats, device, beyond=4 * count * field.num_classes)


def _measure(
    function: Callable[[], None], repeats: int, device: str, *, beyond: int
) -> dict[str, Any]:
    """Median seconds and highest memory less ``beyond`` bytes."""
    seconds: list[float] = []
    peaks: list[int | None] = []
    while len(seconds) < repeats and sum(seconds) < _LONG_SECONDS:
        with watch_memory(device) as watch:
            seconds.append(timed(function))
        peaks.append(watch.peak)
    median = statistics.median(seconds)
    tensors = None
    if median < _PROFILED_SECONDS or None in peaks:
        tensors = (peak_memory(function, warmup=0, device=device) - beyond) / 2**20
    seen = [peak for peak in peaks if peak is not None]
    return {
        "seconds": median,
        "repeats": len(seconds),
        "peak_mib": (max(seen) - beyond) / 2**20 if seen else tensors,
        "tensor_mib": tensors,
    }


def _exponents(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fit exponents of time and memory to rows that differ in one quantity alone."""
    groups: list[tuple[str, str, list[Mapping[str, Any]]]] = []
    rows = result["rows"]
    for over, fixed in (("megapixels", "classes"), ("classes", "megapixels")):
        for value in sorted({row[fixed] for row in rows}):
            label = f"{value:g} {fixed}"
            groups.append((over, label, [row for row in rows if row[fixed] == value]))
    groups.append(("cells", "all levels", result["stride_ratios"]))
    groups.append(("points", "", result["points"]))
    return [
        {
            "over": over,
            "at": at,
            "rows": len(group),
            **{
                key: fit_exponent([row[over] for row in group], [row[key] for row in group])
                for key in ("seconds", "peak_mib")
            },
        }
        for over, at, group in groups
        if len(group) > 1
    ]


def growth_tables(result: Mapping[str, Any]) -> str:
    """Format the rows and the fitted exponents as tables."""
    tables = [
        [
            {
                "megapixels": f"{row['megapixels']:g}",
                "classes": str(row["classes"]),
                "size": pixels(row["size"]),
                **_cost_cells(row, 1e6 * row["megapixels"]),
            }
            for row in result["rows"]
        ],
        [
            {
                "stride ratio": str(row["stride_ratio"]),
                "cells of all levels": str(row["cells"]),
                "size": pixels(row["size"]),
                **_cost_cells(row, math.prod(row["size"])),
            }
            for row in result["stride_ratios"]
        ],
        [
            {"points": str(row["points"]), **_cost_cells(row, row["points"])}
            for row in result["points"]
        ],
        [
            {
                "exponent over": row["over"],
                "at": row["at"],
                "rows": str(row["rows"]),
                "of time": number(row["seconds"], 2),
                "of peak memory": number(row["peak_mib"], 2),
            }
            for row in result["exponents"]
        ],
    ]
    return "\n\n".join(github_table(table) for table in tables if table)


def _cost_cells(row: Mapping[str, Any], queries: float) -> dict[str, str]:
    return {
        "seconds": number(row["seconds"], 3),
        "calls": str(row["repeats"]),
        "us a query": number(1e6 * row["seconds"] / queries, 2),
        "peak MiB": number(row["peak_mib"], 0),
        "tensors MiB": number(row["tensor_mib"], 0),
    }


def plot_growth(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw time and memory against megapixels, classes, stride ratio and points.

    Raises:
        ValueError: the path ends in none of ``PLOT_SUFFIXES``.
    """
    from matplotlib.figure import Figure

    rows = result["rows"]
    classes = rows[0]["classes"]
    counts: dict[float, int] = {}
    for row in rows:
        counts[row["megapixels"]] = counts.get(row["megapixels"], 0) + 1
    at = max(counts, key=counts.__getitem__)
    panels = [
        ("megapixels", f"{classes} classes", [r for r in rows if r["classes"] == classes]),
        ("classes", f"{at:g} megapixels", [r for r in rows if r["megapixels"] == at]),
        ("stride_ratio", "the picture's own size", result["stride_ratios"]),
        ("points", "single points", result["points"]),
    ]
    panels = [panel for panel in panels if panel[2]]
    figure = Figure(figsize=(3.4 * len(panels), 5.6), layout="constrained")
    grid = figure.subplots(2, len(panels), sharex="col", squeeze=False)
    for (time_axes, memory_axes), (key, note, group) in zip(grid.T, panels, strict=True):
        group = sorted(group, key=lambda row: row[key])
        x = [row[key] for row in group]
        for axes, cost, color in (
            (time_axes, "seconds", "tab:blue"),
            (memory_axes, "peak_mib", "tab:orange"),
        ):
            y = [row[cost] for row in group]
            axes.plot(x, y, "o-", color=color)
            axes.set_xscale("log")
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.minorticks_off()
            if cost == "seconds" and max(y) > 5 * min(y):
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.15 * max(*y, 1e-3))
            axes.grid(alpha=0.3)
        time_axes.set_title(note, fontsize="medium")
        memory_axes.set_xlabel(key.replace("_", " "))
    grid[0, 0].set_ylabel("seconds")
    grid[1, 0].set_ylabel("peak MiB beyond the answer")
    save_plot(path, figure)
