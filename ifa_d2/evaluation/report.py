"""Reports of an evaluation: a table, JSON, CSV and pictures."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from ..files import atomic_path
from ..text import class_captions, draw_as_is, text_style
from .calibration import Reliability

_WRITTEN_CLASSES = 30  # up to how many the shares are written into the picture
_NAME_LENGTH = 24  # letters of a class's name in the picture; some of ADE20K's have 60


def per_class_table(figures: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """Format a table of IoU, precision, recall and boundary IoU by class, and their means.

    Args:
        figures: of one data set, as ``SemSegEvaluator`` names them, in percent.
        class_names: in the order of the rows. A figure that a class has not shows as "-".
    """

    def text(key: str) -> str:
        value = figures.get(key, float("nan"))
        return "-" if np.isnan(value) else f"{value:.2f}"

    # Head of a column, prefix of its keys, key of its mean.
    columns = [
        ("IoU", "IoU", "mIoU"),
        ("precision", "Precision", "mPrecision"),
        ("recall", "ACC", "mACC"),
    ]
    for key in figures:
        if key.startswith("mBoundaryIoU_"):
            columns.append((f"boundary IoU {key.partition('_')[2]}", key[1:], key))
    rows = [[name, *(text(f"{prefix}-{name}") for _, prefix, _ in columns)] for name in class_names]
    rows.append(["mean", *(text(mean) for *_, mean in columns)])
    heads = ["class", *(head for head, *_ in columns)]
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain types as JSON; NaN and infinity become null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_confusion(
    folder: str | os.PathLike[str], counts: np.ndarray, class_names: Sequence[str], dataset: str
) -> None:
    """Write a confusion matrix as ``confusion_matrix.json``, ``.csv`` and ``.png``.

    Rows are labels, columns predictions. JSON and CSV have pixels, the picture percent of each row.

    Args:
        folder: where; made if it is not there.
        counts: (K, K) pixels.
        class_names: K.
        dataset: its name, for JSON and picture.
    """
    base = Path(folder) / "confusion_matrix"
    write_json(
        base.with_suffix(".json"),
        {
            "dataset": dataset,
            "rows": "labels",
            "columns": "predictions",
            "classes": list(class_names),
            "pixels": counts.tolist(),
        },
    )
    with (
        atomic_path(base.with_suffix(".csv")) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["label \\ prediction", *class_names])
        writer.writerows(
            [name, *row] for name, row in zip(class_names, counts.tolist(), strict=True)
        )
    figure = _draw(counts, class_names, dataset)
    with atomic_path(base.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw(counts: np.ndarray, class_names: Sequence[str], dataset: str) -> Figure:
    """Draw the matrix in percent of its rows, with numbers in cells that have room."""
    shares = 100 * (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    count = len(class_names)
    written = count <= _WRITTEN_CLASSES
    side = 3 + count * (0.38 if written else 0.13)  # inches
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    size = 8 if written else 6
    names = [name[:_NAME_LENGTH] for name in class_captions(class_names)]
    style = text_style(*names)
    axes.set_xticks(range(count), names, rotation=90, fontsize=size, **style)
    axes.set_yticks(range(count), names, fontsize=size, **style)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    draw_as_is(axes.set_title(f"{dataset}: percent of each label's pixels"))
    figure.colorbar(drawn, ax=axes, shrink=0.6, format="%d %%")
    for (row, column), share in np.ndenumerate(shares if written else np.empty((0, 0))):
        if share >= 0.5:
            color = "white" if share > 50 else "black"
            text = f"{share:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return figure


def write_reliability(
    folder: str | os.PathLike[str], reliability: Reliability, dataset: str
) -> None:
    """Write the reliability diagram of an evaluation as ``reliability.png``.

    Above, the accuracy of each bin of confidence beside the diagonal, on which a calibrated model
    is; below, the share of the pixels that each bin has.

    Args:
        folder: where; made if it is not there.
        reliability: of the data set.
        dataset: its name.
    """
    figure = _draw_reliability(reliability, dataset)
    with atomic_path(Path(folder) / "reliability.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw_reliability(reliability: Reliability, dataset: str) -> Figure:
    count = len(reliability.pixels)
    left = np.arange(count) / count
    figure = Figure(figsize=(5.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    bars = {"width": 1 / count, "align": "edge", "edgecolor": "white", "linewidth": 0.5}
    accuracy, confidence = reliability.accuracy, reliability.confidence
    above.bar(left, np.nan_to_num(accuracy), color="C0", label="share that is right", **bars)
    above.plot([0, 1], [0, 1], color="0.3", linestyle="--", label="calibrated")
    # The gap of each bin, at its mean confidence: from what is claimed to what is right.
    above.vlines(confidence, accuracy, confidence, color="C3", linewidth=2, label="gap")
    above.plot(confidence, confidence, "_", color="C3", markersize=8)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    above.legend(loc="upper left")
    total = max(1, int(reliability.pixels.sum()))
    below.bar(left, 100 * reliability.pixels / total, color="0.6", **bars)
    below.set(xlabel="confidence (probability of the most likely class)", ylabel="% of pixels")
    said = f"{dataset}: ECE {100 * reliability.error:.2f} %, {count} bins, {total:,} pixels"
    draw_as_is(above.set_title(said, fontsize=10))
    return figure
