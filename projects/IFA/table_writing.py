"""Writing a table of trained rows beside the paper's: Markdown, CSV, JSON and a plot."""

import argparse
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compared_runs import describe_machine, write_tables
from matplotlib.figure import Figure
from omegaconf import DictConfig
from table_rows import INPUT_SIZES

from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.evaluation.comparison import mean_and_deviation
from ifa_d2.visualization import save_plot

# The paper's decoding, and one answer for each pixel.
STRIDES = (4, 1)
_FORMS = {
    "r18": "the R-18 form of each row (R-34 for a ResNet-101, timm's smallest for an HRNet), not "
    "the paper's backbones",
    "paper": "the paper's backbones",
}


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
    if times := training_times(results):
        about["times"] = times
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
    """Title of a table's figures."""
    command = ["python", "projects/IFA/run_table.py", options.table, "--dataset", options.dataset]
    command += ["--backbone", options.backbone, "--seeds", str(options.seeds)]
    if options.budget is not None:
        command += ["--budget", str(options.budget)]
    if options.num_processes is not None:
        command += ["--num-processes", str(options.num_processes)]
    elif options.num_gpus > 1:
        command += ["--num-gpus", str(options.num_gpus)]
    if options.rows:
        command += ["--rows", *options.rows, *(["--"] if options.opts else [])]
    size = "x".join(map(str, INPUT_SIZES[options.dataset]))
    seeds = "seed 1" if options.seeds == 1 else f"seeds 1 to {options.seeds}"
    views = ", of pictures as they are (the paper's: multi-scale)" if "multi_scale" in paper else ""
    return {
        "title": f"{paper['title']} ({paper['where']}), on {options.dataset}",
        "what": f"{_FORMS[options.backbone][0].upper()}{_FORMS[options.backbone][1:]}; "
        f"{cfg.train.max_iter} iterations of {cfg.train.batch_size} pictures, "
        f"{seeds}: mIoU in percent, mean ± standard deviation{views}. Multiply-adds of a "
        f"picture of {size}, as the paper counts them and as they are run; a training step's "
        "median time and its tensors' peak.",
        "command": f"`{shlex.join([*command, *options.opts])}`",
        "machine": describe_machine(),
    }


def training_times(results: Sequence[Mapping[str, Any]]) -> str:
    """Sentence on the trainings' duration; empty if unknown."""
    trainings = [one for result in results for one in result.get("trainings", {}).values()]
    seconds = [one["seconds"] for one in trainings if "seconds" in one]
    if not seconds:
        return ""
    shortest, longest = (f"{value:.0f}" for value in (min(seconds), max(seconds)))
    span = shortest if shortest == longest else f"{shortest} to {longest}"
    return f"A training took {span} s of wall time."


def table_rows(results: Sequence[Mapping[str, Any]], dataset: str) -> list[dict[str, str]]:
    """Format rows for a table."""
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
    """Plot mIoU of the rows, each seed and their mean, beside the paper's."""
    known = any(result["paper_miou"] is not None for result in results)
    size = (5 + 4 * known, 1.4 + 0.34 * len(results))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, 1 + known, sharey=True, squeeze=False)
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
    save_plot(path, figure)
