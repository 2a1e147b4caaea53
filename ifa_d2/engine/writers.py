"""Writers of a run's figures: terminal, metrics.json and TensorBoard."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from ..files import atomic_path

METRICS = "metrics.json"
_EVENTS = re.compile(r"(events\.out\.tfevents\.)(\d+)(\..*)")


class TensorboardWriter(TensorboardXWriter):
    """Detectron2's, whose events are on the disk as soon as they are written."""

    def write(self) -> None:
        super().write()
        self._writer.flush()


def build_writers(output_dir: str, start_iter: int, max_iter: int) -> list[EventWriter]:
    """Writers to the terminal, to metrics.json and to TensorBoard's files.

    What an earlier run wrote about iterations that are now run (again) is dropped.

    Args:
        output_dir: of the run.
        start_iter: its first iteration; ``max_iter`` where none is left.
        max_iter: the number of iterations, to estimate the time that is left.
    """
    # A run that is done has the figures of its last evaluation at max_iter.
    first = start_iter if start_iter < max_iter else max_iter + 1
    path = os.path.join(output_dir, METRICS)
    if os.path.isfile(path):
        rows = [row for row in read_metrics(output_dir) if row["iteration"] < first]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows))
    _date_back(Path(output_dir))
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(path),
        TensorboardWriter(output_dir, purge_step=first),
    ]


def _date_back(folder: Path) -> None:
    """Rename TensorBoard's files of earlier runs whose names are of a later time than now.

    TensorBoard reads files in the order of their names. After a clock was set back, what a resumed
    run writes would come before what it continues, and not be shown.
    """
    found = (_EVENTS.fullmatch(path.name) for path in sorted(folder.iterdir()))
    files = [match for match in found if match]
    latest = int(time.time()) - len(files)
    for index, match in enumerate(files):
        if int(match[2]) >= latest:
            name = f"{match[1]}{latest + index:010d}{match[3]}"
            os.replace(folder / match[0], folder / name)


def read_metrics(output_dir: str) -> list[dict[str, Any]]:
    """Read the rows of a run's metrics.json, but lines that are none, such as half a line."""
    path = os.path.join(output_dir, METRICS)
    if not os.path.isfile(path):
        return []
    rows = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("iteration"), int):
                rows.append(row)
    return rows


def figures_at(output_dir: str, iteration: int, metric: str) -> dict[str, Any] | None:
    """Find the row of metrics.json in which ``metric`` was measured at an iteration; or None."""
    rows = [row for row in read_metrics(output_dir) if row["iteration"] == iteration]
    return next((row for row in rows if metric in row), None)
