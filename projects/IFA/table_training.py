"""Trains the rows of a table one after the other, and writes what comes out beside the paper's."""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
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

from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.analysis.cost import analyze, report
from ifa_d2.analysis.runs import (
    FINAL,
    check_settings,
    describe_machine,
    mean_and_deviation,
    measure_steps,
    stride_figures,
    train,
    write_tables,
)
from ifa_d2.engine.run import load_config
from ifa_d2.files import atomic_path

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
# The paper's decoding, and one answer for each pixel.
STRIDES = (4, 1)
_FORMS = {
    "r18": "the R-18 form of each row (its HRNets are timm's smallest), not the paper's backbones",
    "paper": "the paper's backbones",
}
_FAILURES = (ValueError, RuntimeError, OSError)


def run(options: argparse.Namespace) -> int:
    """Train, evaluate and measure a table's rows; writes after each run.

    Args:
        options: ``table``, ``rows``, ``dataset``, ``backbone``, ``seeds``, ``budget``, ``repeats``,
            ``output`` and ``opts`` of the command.

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
    """A result for each row with what is known before it is trained, and the configs that train.

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
        }
        results.append(result)
        recipe = folder / result["run"] / "recipe.yaml"
        try:
            if not any(recipe.parent.glob("seed*/config.yaml")):  # nothing was begun
                with atomic_path(recipe) as temporary:
                    cfg = training_config(row, options.dataset, options.backbone)
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
            check_settings(folder / result["run"] / f"seed{seed}", settings)
    if not cfgs:
        raise ValueError(results[0]["error"])
    return results, cfgs


def _changes(options: argparse.Namespace, seed: int) -> list[str]:
    """What the command changes of a recipe."""
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
    """All rows with seed 1, then all with seed 2: a table that was stopped has whole columns."""
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
    train(TRAIN_NET, recipe, output, _overrides(options, seed), log)
    figures = result["miou"][str(seed)] = stride_figures(cfg, output, STRIDES)
    for other in output.glob("model_*.pth"):
        if other.name != FINAL:
            other.unlink()
    text = "mIoU " + ", ".join(f"{figures[str(s)]:.1f} at stride {s}" for s in STRIDES)
    return f"{text} ({'was trained' if done else f'{time.monotonic() - start:.0f} s'})"


def write(
    folder: Path,
    paper: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    cfgs: Mapping[str, DictConfig],
    options: argparse.Namespace,
) -> str:
    """Write the table as .md, .csv, .json and .png; returns the first."""
    stem = f"table{options.table}" if options.table.isdigit() else options.table
    rows = table_rows(results, paper["dataset"])
    about = _about(paper, next(iter(cfgs.values())), options)
    text = "\n\n".join([*about.values(), github_table(rows)]) + "\n"
    failed = [f"- {r['row']}: {r['error']}" for r in results if "error" in r]
    if failed:
        text += "\nFailed:\n\n" + "\n".join(failed) + "\n"
    write_tables(folder, stem, text, rows, {**about, "rows": list(results)})
    plot(folder / f"{stem}.png", results, f"{options.dataset}, {options.backbone}", paper)
    return text


def _about(
    paper: Mapping[str, Any], cfg: DictConfig, options: argparse.Namespace
) -> dict[str, str]:
    """What a table's figures are of."""
    command = ["python", "projects/IFA/run_table.py", options.table, "--dataset", options.dataset]
    command += ["--backbone", options.backbone, "--seeds", str(options.seeds)]
    if options.budget is not None:
        command += ["--budget", str(options.budget)]
    if options.rows:
        command += ["--rows", *options.rows, *(["--"] if options.opts else [])]
    size = "x".join(map(str, INPUT_SIZES[options.dataset]))
    seeds = "seed 1" if options.seeds == 1 else f"seeds 1 to {options.seeds}"
    return {
        "title": f"{paper['title']} ({paper['where']}), on {options.dataset}",
        "what": f"{_FORMS[options.backbone][0].upper()}{_FORMS[options.backbone][1:]}; "
        f"{cfg.train.max_iter} iterations of {cfg.train.batch_size} pictures, "
        f"{seeds}: mIoU in percent, mean ± standard deviation. Multiply-adds of a "
        f"picture of {size}, as the paper counts them and as they are run; a training step's "
        "median time and its tensors' peak.",
        "command": f"`{shlex.join([*command, *options.opts])}`",
        "machine": describe_machine(),
    }


def table_rows(results: Sequence[Mapping[str, Any]], dataset: str) -> list[dict[str, str]]:
    """Rows as they are shown."""
    rows = []
    for result in results:
        row = {"row": result["row"], f"paper, {dataset}": number(result["paper_miou"], 2)}
        for stride in STRIDES:
            values = [figures[str(stride)] for figures in result["miou"].values()]
            row[f"mIoU, stride {stride}"] = mean_and_deviation(values)
        if "error" in result:
            row["mIoU, stride 4"] = "failed"
        for key, title, unit, digits in (
            ("params", "params, M", 1e6, 2),
            ("macs", "multiply-adds, G", 1e9, 2),
            ("macs_here", "as run, G", 1e9, 2),
            ("seconds", "step, s", 1, 3),
            ("mib", "memory, MiB", 1, 0),
        ):
            row[title] = number(result[key] / unit if key in result else None, digits)
        rows.append(row)
    return rows


def plot(
    path: Path, results: Sequence[Mapping[str, Any]], here: str, paper: Mapping[str, Any]
) -> None:
    """Draw mIoU of the rows, each seed and their mean, and the paper's beside it."""
    known = any(result["paper_miou"] is not None for result in results)
    figure, axes = plt.subplots(
        1,
        1 + known,
        figsize=(5 + 4 * known, 1.4 + 0.34 * len(results)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    ours = axes[0, 0]
    for stride, marker, offset in zip(STRIDES, ("o", "s"), (-0.13, 0.13), strict=True):
        seeds = [[f[str(stride)] for f in result["miou"].values()] for result in results]
        places = [(y + offset, values) for y, values in enumerate(seeds) if values]
        means = [statistics.fmean(values) for _, values in places]
        color = f"C{STRIDES.index(stride)}"
        label = f"decoded at stride {stride}"
        ours.plot(means, [y for y, _ in places], marker, color=color, label=label)
        for y, values in places:
            ours.plot(values, [y] * len(values), "|", color=color, alpha=0.6)
    ours.set(xlabel="mIoU, percent", title=here)
    ours.set_yticks(range(len(results)), [result["row"] for result in results])
    ours.set_ylim(len(results) - 0.5, -0.5)  # the first row on top
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    if known:
        points = [(r["paper_miou"], y) for y, r in enumerate(results) if r["paper_miou"]]
        axes[0, 1].plot(*zip(*points, strict=True), "D", color="0.3", markerfacecolor="none")
        axes[0, 1].set(xlabel="mIoU, percent", title=f"the paper, {paper['dataset']}")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
