"""Reports of an evaluation: a table, JSON, CSV and pictures."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from ..files import atomic_path
from .calibration import Reliability


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
    from .plots import draw_confusion  # here: it takes a second, and training does without

    figure = draw_confusion(counts, class_names, dataset)
    with atomic_path(base.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


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
    from .plots import draw_reliability  # here, as above

    figure = draw_reliability(reliability, dataset)
    with atomic_path(Path(folder) / "reliability.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)
