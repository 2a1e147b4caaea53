"""The evaluator against Detectron2's, on one picture with its label file."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation import SemSegEvaluator as Detectron2SemSegEvaluator
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...data import register_sem_seg_folder
from ...evaluation import SemSegEvaluator
from ..measure import alternate, median_ratio, watch_memory
from .tables import github_table, number, pixels

_NAME = "benchmark_evaluator"
_IGNORE = 255
_THEIRS = "Detectron2"


def run_evaluator(
    *, input_size: tuple[int, int], num_classes: int, repeats: int, device: str
) -> dict[str, Any]:
    """Measure time and memory of evaluating one picture, from its label file to its counts.

    Each way is timed as a user runs it: Detectron2's gets logits, measures its boundary IoU and
    encodes run lengths, which it has no option against; ours measures boundaries and trimaps at
    its default widths, none, or gets labels.

    Args:
        input_size: of the picture, (height, width) in pixels.
        num_classes: of the data set, from 2 to 254.
        repeats: timed turns.
        device: where the logits are.

    Raises:
        ValueError: another ``num_classes``.
    """
    if not 2 <= num_classes < _IGNORE:
        raise ValueError(f"num_classes must be from 2 to {_IGNORE - 1}, got {num_classes}")
    label, logits = _made_up_answer(input_size, num_classes)
    logits = logits.to(device)
    with _registered(label, num_classes) as one:
        labels = logits.argmax(dim=0).byte()
        cases = {
            _THEIRS: (_theirs(), logits),
            "ours": (SemSegEvaluator(_NAME, distributed=False), logits),
            "ours, no boundaries": (_without_boundaries(), logits),
            "ours, of labels": (SemSegEvaluator(_NAME, distributed=False), labels),
        }
        functions = {name: _processing(*case, one) for name, case in cases.items()}
        times = alternate(functions, repeats=repeats)
        memory = {name: _resident_mib(function) for name, function in functions.items()}
        miou = {name: _miou(evaluator) for name, (evaluator, _) in cases.items()}
    rows = [
        {
            "evaluator": name,
            "seconds": statistics.median(times[name]),
            "time_ratio": median_ratio(times[_THEIRS], times[name]),
            "peak_mib": memory[name],
            "miou": miou[name],
        }
        for name in cases
    ]
    return {"input": list(input_size), "classes": num_classes, "rows": rows}


def _theirs() -> Detectron2SemSegEvaluator:
    return Detectron2SemSegEvaluator(_NAME, distributed=False)


def _without_boundaries() -> SemSegEvaluator:
    return SemSegEvaluator(_NAME, distributed=False, boundary_widths=(), trimap_widths=())


def _processing(
    evaluator: DatasetEvaluator, sem_seg: Tensor, one: Mapping[str, str]
) -> Callable[[], None]:
    """Build an evaluator that starts from the picture."""

    def process() -> None:
        evaluator.reset()
        evaluator.process([one], [{"sem_seg": sem_seg}])

    return process


def _resident_mib(function: Callable[[], None]) -> float | None:
    """Peak memory of the process beyond its memory before; None if the system reports none."""
    with watch_memory() as watch:
        function()
    return None if watch.peak is None else watch.peak / 2**20


def _miou(evaluator: DatasetEvaluator) -> float:
    return float(evaluator.evaluate()["sem_seg"]["mIoU"])


def _made_up_answer(size: tuple[int, int], num_classes: int) -> tuple[np.ndarray, Tensor]:
    """Make a label of smooth regions with an ignored strip, and logits that mostly match it."""
    generator = torch.Generator().manual_seed(0)

    def smooth(cell: int) -> Tensor:
        coarse = [max(1, side // cell) for side in size]
        field = torch.randn((1, num_classes, *coarse), generator=generator)
        return F.interpolate(field, size=size, mode="bilinear", align_corners=False)[0]

    field = smooth(32)
    label = field.argmax(dim=0).byte().numpy()
    label[: size[0] // 16] = _IGNORE
    return label, field + 0.3 * smooth(8)


@contextmanager
def _registered(label: np.ndarray, num_classes: int) -> Iterator[dict[str, str]]:
    """Register a data set of one picture for the block; yields the evaluator's input."""
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / kind for kind in ("images", "labels")]
        for root in roots:
            root.mkdir()
        path = roots[0] / "one.png"
        Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(path)
        Image.fromarray(label).save(roots[1] / "one.png")
        names = [f"class {index}" for index in range(num_classes)]
        register_sem_seg_folder(_NAME, *roots, names, ignore_label=_IGNORE)
        try:
            yield {"file_name": str(path)}
        finally:
            DatasetCatalog.remove(_NAME)
            MetadataCatalog.remove(_NAME)


def evaluator_tables(result: Mapping[str, Any]) -> str:
    """Format the rows as tables."""
    table = github_table(
        [
            {
                "evaluator": row["evaluator"],
                "ms": number(1000 * row["seconds"], 1),
                "times as fast": number(row["time_ratio"], 1),
                "MiB": number(row["peak_mib"], 0),
                "mIoU": number(row["miou"], 4),
            }
            for row in result["rows"]
        ]
    )
    return f"{pixels(result['input'])}, {result['classes']} classes\n\n{table}"
