"""Compared runs: trained one after the other, evaluated by stride, timed in turn.

A run keeps its progress in a folder of its own: a stopped comparison is resumed.
"""

import csv
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ifa_d2.analysis.measure import alternate, device_name, peak_memory
from ifa_d2.engine import build
from ifa_d2.engine.predictor import load_model
from ifa_d2.evaluation.predictions import label_dtype
from ifa_d2.files import atomic_path
from ifa_d2.metrics.confusion import confusion_figures, count_pairs
from ifa_d2.modeling import compute_fields, level_features

STRIDES = (8, 4, 2, 1)
FINAL = "model_final.pth"
_TIMES = "training.json"


def queries_of_grid(cfg: DictConfig) -> int:
    """Number of queries of a crop on the grid of its finest feature."""
    levels = cfg.model.sem_seg_head.levels
    stride = levels.input_shape[level_features(levels)[0]].stride
    height, width = cfg.dataloader.train.mapper.augmentations.crop_size
    return math.ceil(height / stride) * math.ceil(width / stride)


def check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Record the settings of a folder's run, or check that they are the same.

    Args:
        output: the folder; overrides.json in it is the note.
        settings: anything that JSON holds.

    Raises:
        ValueError: the folder holds a run of other settings.
    """
    note = output / "overrides.json"
    if note.is_file():
        if json.loads(note.read_text()) != settings:
            raise ValueError(f"--output: {output} holds a run of other settings, see {note}")
        return
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(settings, indent=1))


def train(
    script: Path,
    config_file: str,
    output: Path,
    overrides: Sequence[str],
    log: Path | None = None,
    launch: Sequence[str] = (),
) -> None:
    """Train or resume a run by a command of its own.

    Its time is added up in the run's folder, see :func:`training_summary`.

    Args:
        script: tools/train_net.py.
        config_file: of the run.
        output: its folder.
        overrides: changes of the config, "key=value" each.
        log: receives the training's output; None shows it on the standard error stream.
        launch: arguments of the script, such as its number of processes.

    Raises:
        RuntimeError: the training failed.
    """
    if (output / FINAL).is_file():
        return
    command = [sys.executable, str(script), "--resume", "--config-file", config_file]
    command += [*launch, f"train.output_dir={output}", *overrides]
    start, said = time.monotonic(), ""
    try:
        if log is None:
            status = subprocess.run(command, stdout=sys.stderr).returncode
        else:
            with log.open("wb") as file:
                status = subprocess.run(command, stdout=file, stderr=file).returncode
            lines = log.read_text(errors="replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
    finally:
        _add_time(output / _TIMES, time.monotonic() - start)
    if status:
        raise RuntimeError(f"the training in {output} ended with status {status}{said}")


def _add_time(path: Path, seconds: float) -> None:
    before = json.loads(path.read_text())["seconds"] if path.is_file() else 0.0
    times = {
        "seconds": round(before + seconds, 1),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(times))


def training_summary(output: Path) -> dict[str, Any]:
    """Read the record of a training from its folder.

    Returns:
        ``total_loss``, the last that was logged; ``seconds`` of wall time from the start of the
        command to its end, with loading and the last evaluation, of all its starts; ``date`` (ISO)
        and ``torch`` version of the last. What is not known is left out, as the latter three of
        runs that another command trained.
    """
    summary, metrics, times = {}, output / "metrics.json", output / _TIMES
    if metrics.is_file():
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        losses = [line["total_loss"] for line in lines if "total_loss" in line]
        summary.update({"total_loss": losses[-1]} if losses else {})
    if times.is_file():
        summary.update(json.loads(times.read_text()))
    return summary


def stride_figures(
    cfg: DictConfig, output: Path, strides: Sequence[int] = STRIDES
) -> dict[str, float]:
    """Evaluate a trained run by stride, a text; the result is kept in its folder."""
    path = output / "strides.json"
    if path.is_file():
        figures = json.loads(path.read_text())
        if all(str(stride) in figures for stride in strides):
            return {str(stride): figures[str(stride)] for stride in strides}
    model = load_model(cfg, str(output / FINAL))
    loader = build.build_test_loader(cfg, build.test_dataset_names(cfg)[0])
    figures = evaluate_strides(model, loader, strides)
    figures = {str(stride): value for stride, value in figures.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(figures))
    return figures


@torch.no_grad()
def evaluate_strides(
    model: nn.Module,
    loader: Iterable[Sequence[Mapping[str, Any]]],
    strides: Sequence[int] = STRIDES,
) -> dict[int, float]:
    """Compute mIoU in percent by decoding stride, over the classes that occur.

    Features are computed once a picture.

    At stride s the field is asked at one sample for s x s pixels, and the logits are interpolated
    to the pixels, as Detectron2 does with logits at the paper's stride 4.

    Args:
        model: with an ``IFASemSegHead``, in eval mode.
        loader: batches of pictures with ``sem_seg``.
        strides: in pixels of the model's input.

    Raises:
        ValueError: nothing to evaluate on.
    """
    head = model.sem_seg_head
    counts, dtype = dict.fromkeys(strides, 0), label_dtype(head.num_classes)
    for batch in loader:
        for one, field in zip(batch, compute_fields(model, batch), strict=True):
            truth = one["sem_seg"]
            label = truth.masked_fill(truth == head.ignore_value, head.num_classes)
            label = label.numpy().astype(dtype)
            for stride in strides:
                size = [math.ceil(n / stride) for n in one["image"].shape[-2:]]
                logits = field.logits(size)
                if logits.shape[1:] != truth.shape:
                    logits = F.interpolate(logits[None], tuple(truth.shape), mode="bilinear")[0]
                prediction = logits.argmax(0).cpu().numpy().astype(dtype)
                counts[stride] += count_pairs(label, prediction, head.num_classes)
    figures = {
        stride: 100 * confusion_figures(count, count_predicted_only=False).miou
        for stride, count in counts.items()
    }
    if any(map(math.isnan, figures.values())):
        raise ValueError("the data set to evaluate on has no labelled pixel")
    return figures


def measure_steps(cfgs: Mapping[str, DictConfig], repeats: int) -> dict[str, dict[str, float]]:
    """Measure seconds and peak MiB of a training step of each config, in turn."""
    steps = {}
    for name, cfg in cfgs.items():
        cfg = OmegaConf.merge(cfg, {"dataloader": {"train": {"num_workers": 0}}})
        batch = next(iter(instantiate(cfg.dataloader.train)))
        steps[name] = partial(_step, build.build_model(cfg).train(), batch)
    times = alternate(steps, repeats=repeats)
    return {
        name: {
            "seconds": statistics.median(times[name]),
            "mib": peak_memory(step, warmup=0) / 2**20,
        }
        for name, step in steps.items()
    }


def _step(model: nn.Module, batch: list[dict[str, Any]]) -> None:
    model.zero_grad(set_to_none=True)
    sum(model(batch).values()).backward()


def write_tables(
    folder: Path, stem: str, text: str, rows: Sequence[Mapping[str, str]], results: Any
) -> None:
    """Write a comparison's stem.md, stem.csv and stem.json.

    Args:
        folder: where to.
        stem: of the names.
        text: the table as Markdown.
        rows: the table, of one set of keys.
        results: the numbers behind the table.
    """
    with atomic_path(folder / f"{stem}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with (
        atomic_path(folder / f"{stem}.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with atomic_path(folder / f"{stem}.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def describe_machine() -> str:
    """Describe the GPU or CPU that trains, its threads, and torch's version."""
    if torch.cuda.is_available():
        return f"{device_name('cuda')}, torch {torch.__version__}"
    return f"{device_name('cpu')}, {torch.get_num_threads()} threads, torch {torch.__version__}"
