"""The work of ``tools/plot_metrics.py``."""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from ..files import check_outputs
from ..text import draw_as_is
from ..visualization import check_plot_path, line_styles, save_plot

METRICS = "metrics.json"
LOSS, MIOU = "loss_sem_seg", "sem_seg/mIoU"
CURVES = {LOSS: "loss (median of 20 iterations)", MIOU: "mIoU, percent"}
_PANEL = (5, 3.2)  # inches


def read_rows(run: Path) -> list[dict[str, float]]:
    """Lines of a run's ``metrics.json``: each has the metrics of an iteration, some or all.

    Raises:
        ValueError: the run has no such file, it is damaged, or has no metric of ``CURVES``.
    """
    path = run / METRICS
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not any(key in row for row in rows for key in CURVES):
        raise ValueError(f"{path} has neither {' nor '.join(CURVES)}: nothing can be drawn of it")
    return rows


def curve(rows: list[dict[str, float]], key: str) -> tuple[list[int], list[float]]:
    """Find how many iterations were done at each value of a metric, and the values.

    Metrics of an iteration, which are counted from 0, are those after it; only the evaluation at a
    run's end is written at the number of its iterations.
    """
    last = max((row["iteration"] for row in rows if LOSS in row), default=None)
    points = {}
    for row in rows:
        if key in row:
            done = row["iteration"] + 1
            points[done if last is None else min(done, last + 1)] = row[key]
    return list(points), list(points.values())


def draw(runs: list[tuple[str, Path]]) -> Figure:
    """Draw the curves of runs, (name, folder) each."""
    figure = Figure(figsize=(_PANEL[0] * len(CURVES), _PANEL[1]), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    styles, named = line_styles(name for name, _ in runs), {}
    for name, folder in runs:
        rows = read_rows(folder)
        for axes, key in zip(panels, CURVES, strict=True):
            marker = "o" if key == MIOU else ""
            (line,) = axes.plot(*curve(rows, key), marker=marker, markersize=4, **styles[name])
            named.setdefault(name, line)
    for axes, title in zip(panels, CURVES.values(), strict=True):
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(
        named.values(), named, loc="outside lower center", ncols=4, frameon=False
    )
    for text in legend.get_texts():
        draw_as_is(text)
    return figure


def run(args: argparse.Namespace) -> None:
    """Draw the curves into a file."""
    check_plot_path(args.output)
    parts = [run.rpartition("=") for run in args.runs]
    runs = [(name or folder, Path(folder)) for name, _, folder in parts]
    check_outputs([args.output], {"run's figures": [folder / METRICS for _, folder in runs]})
    save_plot(args.output, draw(runs))
