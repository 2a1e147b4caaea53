"""Training of a table's rows, one by one, with results beside the paper's."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compared_runs import (
    FINAL,
    check_settings,
    measure_steps,
    stride_figures,
    train,
    training_summary,
)
from detectron2.config import LazyConfig
from omegaconf import DictConfig
from table_rows import (
    INPUT_SIZES,
    choose_rows,
    read_paper_tables,
    row_name,
    trained_config,
    training_config,
)
from table_writing import STRIDES, write

from ifa_d2.analysis.cost import analyze, report
from ifa_d2.engine.run import load_config, local_processes
from ifa_d2.files import atomic_path

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
_FAILURES = (ValueError, RuntimeError, OSError)


def run(options: argparse.Namespace) -> int:
    """Train, evaluate and measure a table's rows, and write the table after each run.

    Args:
        options: ``table``, ``rows``, ``dataset``, ``backbone``, ``seeds``, ``budget``, ``repeats``,
            ``num_gpus``, ``num_processes``, ``output`` and ``opts`` of the command.

    Returns:
        How many rows failed.

    Raises:
        ValueError: a mistake in the command, or a folder that holds runs of other settings.
    """
    paper = read_paper_tables()[options.table]
    folder = Path(options.output or f"output/IFA/{options.dataset}_{options.backbone}").resolve()
    rows = choose_rows(paper, options.rows)
    results, cfgs = _prepare(rows, folder, options)
    for place, result, seed in _runs(results, options.seeds):
        print(f"{place} {result['run']}, seed {seed}", end=": ", file=sys.stderr, flush=True)
        try:
            print(_run_one(result, cfgs[result["name"]], folder, seed, options), file=sys.stderr)
        except _FAILURES as error:
            result["error"] = f"seed {seed}: {error}"
            print(f"failed: {error}", file=sys.stderr)
        write(folder, paper, results, cfgs, options)
    if options.repeats:
        trained = {r["name"]: cfgs[r["name"]] for r in results if "error" not in r}
        print(f"timing a training step of {len(trained)} rows in turn", file=sys.stderr)
        try:
            steps = measure_steps(trained, options.repeats)
        except _FAILURES as error:  # such as too little memory for all of them at once
            print(f"not timed: {error}", file=sys.stderr)
            steps = {}
        for result in results:
            result.update(steps.get(result["name"], {}))
    print(write(folder, paper, results, cfgs, options), end="")
    return sum("error" in result for result in results)


def _prepare(
    rows: Sequence[dict[str, Any]], folder: Path, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, DictConfig]]:
    """Start a result for each row with its costs, and build the configs to train.

    The recipe of a row is written to its folder once, and read from there ever after.
    """
    results, cfgs = [], {}
    for row in rows:
        result = {
            "row": row["row"],
            "name": row_name(row),
            "run": trained_config(row),
            "paper_miou": row["miou"],
            "miou": {},
            "trainings": {},
        }
        results.append(result)
        recipe = folder / result["run"] / "recipe.yaml"
        try:
            if not any(recipe.parent.glob("seed*/config.yaml")):  # nothing was begun
                with atomic_path(recipe) as temporary:
                    norm = _norm(options)
                    cfg = training_config(row, options.dataset, options.backbone, norm)
                    LazyConfig.save(cfg, str(temporary))
            cfg = load_config(str(recipe), _overrides(options, seed=1))
            cost = report(analyze(cfg, INPUT_SIZES[options.dataset]))
        except _FAILURES as error:
            result["error"] = str(error)
            continue
        result.update(params=cost["params"], macs=cost["macs_textbook"], macs_here=cost["macs"])
        cfgs[result["name"]] = cfg
        for seed in range(1, options.seeds + 1):
            settings = {
                "dataset": options.dataset,
                "backbone": options.backbone,
                "overrides": _changes(options, seed),
            }
            if local_processes(options) > 1:  # it draws other data
                settings["processes"] = local_processes(options)
            check_settings(folder / result["run"] / f"seed{seed}", settings)
    if not cfgs:
        raise ValueError(results[0]["error"])
    return results, cfgs


def _norm(options: argparse.Namespace) -> str:
    """Batch norm with statistics of the whole batch, over all processes."""
    if local_processes(options) == 1:
        return "BN"
    return "SyncBN" if options.num_processes is None else "naiveSyncBN"


def _launch(options: argparse.Namespace) -> list[str]:
    """Arguments of tools/train_net.py for its processes."""
    if options.num_processes is not None:
        return ["--num-processes", str(options.num_processes)]
    return ["--num-gpus", str(options.num_gpus)]


def _changes(options: argparse.Namespace, seed: int) -> list[str]:
    """Overrides of a recipe by the command's arguments."""
    budget = [] if options.budget is None else [f"train.max_iter={options.budget}"]
    return [*budget, *options.opts, f"train.seed={seed}"]


def _overrides(options: argparse.Namespace, seed: int) -> list[str]:
    # One checkpoint to go on from: many runs lie side by side.
    keep = ["train.eval_period=0", "train.checkpointer.max_to_keep=1"]
    period = f"train.checkpointer.period={options.checkpoint_period}"
    return [*keep, period, *_changes(options, seed)]


def _runs(
    results: Sequence[dict[str, Any]], seeds: int
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Iterate over seeds, then rows, so that a stopped table has whole columns."""
    total = seeds * len(results)
    for index in range(total):
        result, seed = results[index % len(results)], 1 + index // len(results)
        if "error" not in result:
            yield f"[{index + 1}/{total}]", result, seed


def _run_one(
    result: dict[str, Any], cfg: DictConfig, folder: Path, seed: int, options: argparse.Namespace
) -> str:
    """Train and evaluate a row with a seed, unless that is done; returns a line about it."""
    output = folder / result["run"] / f"seed{seed}"
    start, done = time.monotonic(), (output / FINAL).is_file()
    recipe = str(output.parent / "recipe.yaml")
    log = output / "train_output.txt"
    train(TRAIN_NET, recipe, output, _overrides(options, seed), log, _launch(options))
    result["trainings"][str(seed)] = training_summary(output)
    figures = result["miou"][str(seed)] = stride_figures(cfg, output, STRIDES)
    for other in output.glob("model_*.pth"):
        if other.name != FINAL:
            other.unlink()
    text = "mIoU " + ", ".join(f"{figures[str(s)]:.1f} at stride {s}" for s in STRIDES)
    return f"{text} ({'was trained' if done else f'{time.monotonic() - start:.0f} s'})"
