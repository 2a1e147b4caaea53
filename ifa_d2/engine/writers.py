"""What a run writes about itself while it runs."""

import json
import os

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from ..files import atomic_path


def build_writers(output_dir: str, start_iter: int, max_iter: int) -> list[EventWriter]:
    """Writers to the terminal, to metrics.json and to TensorBoard's files.

    What an earlier run wrote about iterations that are now run (again) is dropped.

    Args:
        output_dir: of the run.
        start_iter: its first iteration.
        max_iter: the number of iterations, to estimate the time that is left.
    """
    metrics = os.path.join(output_dir, "metrics.json")
    _drop_metrics(metrics, start_iter)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(metrics),
        TensorboardXWriter(output_dir, purge_step=start_iter),
    ]


def _drop_metrics(path: str, start_iter: int) -> None:
    """Take the lines of ``start_iter`` and later out of a metrics.json, if it is there."""
    if not os.path.isfile(path):
        return
    with open(path) as file:
        lines = file.readlines()
    kept = []
    for line in lines:
        try:
            if json.loads(line)["iteration"] < start_iter:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # half a line of a run that was killed
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept))
