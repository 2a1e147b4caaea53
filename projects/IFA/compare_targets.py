#!/usr/bin/env python3
"""Comparison of training targets: step time, memory, and mIoU at strides 8, 4, 2 and 1.

    python projects/IFA/compare_targets.py --dataset shapes --output output/targets/shapes
    python projects/IFA/compare_targets.py --dataset camvid --targets grid jittered_grid boundary \\
        --local-ensemble yes --seeds 1 2 3 --output output/targets/camvid -- train.max_iter=1600

Unfinished runs are trained one after the other by tools/train_net.py; a stopped run is resumed.
Writes targets.md, .csv, .json and .png below the output folder.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compared_runs import (
    STRIDES,
    check_settings,
    measure_steps,
    queries_of_grid,
    stride_figures,
    train,
    write_tables,
)
from matplotlib.figure import Figure

from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.engine.run import load_config
from ifa_d2.evaluation.comparison import mean_and_deviation
from ifa_d2.visualization import line_styles, save_plot

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools" / "train_net.py"
_HEAD, _MAPPER = "model.sem_seg_head", "dataloader.train.mapper"
# What is trained: the head's targets and the mapper's points. {points} stands for as many as the
# grid has queries, {candidates} for those among which the least certain are looked for.
_NO_POINTS = f"{_MAPPER}.num_points=0"
_TARGET = f"{_HEAD}.targets._target_=ifa_d2.modeling"
_POINTS = [f"{_TARGET}.PointTargets", f"{_MAPPER}.num_points={{points}}"]
TARGETS = {
    "grid": [f"{_TARGET}.GridTargets", _NO_POINTS],
    "jittered_grid": [f"{_TARGET}.JitteredGridTargets", _NO_POINTS],
    "jittered_spacings": [
        f"{_TARGET}.JitteredGridTargets",
        f"{_HEAD}.targets.spacings=[1.0,0.5]",
        _NO_POINTS,
    ],
    "uniform": [*_POINTS, f"{_MAPPER}.point_sampling=uniform"],
    "boundary": [*_POINTS, f"{_MAPPER}.point_sampling=boundary"],
    "class_balanced": [*_POINTS, f"{_MAPPER}.point_sampling=class_balanced"],
    "balanced_boundary": [*_POINTS, f"{_MAPPER}.point_sampling=balanced_boundary"],
    "uncertain": [
        f"{_TARGET}.UncertainPointTargets",
        f"{_MAPPER}.num_points={{candidates}}",
        f"{_MAPPER}.point_sampling=uniform",
    ],
}


def overrides_of(config_file: str, targets: str, ensemble: bool, opts: Sequence[str]) -> list[str]:
    """Overrides of a recipe for one of the compared trainings."""
    cfg = load_config(config_file, opts)
    targets_node = cfg.model.sem_seg_head.targets
    points = queries_of_grid(cfg)
    ratios = targets_node.get("oversample_ratio", 3.0), targets_node.get("importance_ratio", 0.75)
    candidates = math.ceil(points * (ratios[0] + 1 - ratios[1]))
    chosen = [part.format(points=points, candidates=candidates) for part in TARGETS[targets]]
    return [
        "model._target_=ifa_d2.modeling.FieldSegmentor",
        f"{_HEAD}.alignment.local_ensemble={ensemble}",
        "train.eval_period=0",
        *chosen,
        *opts,
    ]


def table_rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Format rows; several seeds become a mean and a standard deviation."""
    rows = []
    for result in results:
        row = {
            "targets": result["targets"],
            "local ensemble": "yes" if result["local_ensemble"] else "no",
            "step, s": number(result.get("seconds"), 2),
            "memory, MiB": number(result.get("mib"), 0),
        }
        for stride in STRIDES:
            values = [figures[str(stride)] for figures in result["miou"].values()]
            row[f"mIoU, stride {stride}"] = mean_and_deviation(values)
        rows.append(row)
    return rows


def plot(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Plot mIoU by the stride of decoding: a line for each training, its seeds as bars."""
    figure = Figure(figsize=(7.5, 0.9 + 0.3 * max(len(results), 8)), layout="constrained")
    axes = figure.add_subplot()
    styles = line_styles(result["targets"] for result in results)
    for index, result in enumerate(results):
        figures = result["miou"].values()
        values = [[one[str(stride)] for one in figures] for stride in STRIDES]
        means = [statistics.fmean(one) for one in values]
        below = [mean - min(one) for mean, one in zip(means, values, strict=True)]
        above = [max(one) - mean for mean, one in zip(means, values, strict=True)]
        axes.errorbar(
            [place + 0.02 * index for place in range(len(STRIDES))],
            means,
            (below, above),
            color=styles[result["targets"]]["color"],
            linestyle="-" if result["local_ensemble"] else "--",
            marker="o" if result["local_ensemble"] else "s",
            capsize=2,
            label=result["targets"] + (", ensemble" if result["local_ensemble"] else ""),
        )
    axes.set_xticks(range(len(STRIDES)), [str(stride) for stride in STRIDES])
    axes.set(xlabel="stride of decoding, pixels", ylabel="mIoU, percent")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    save_plot(path, figure)


def run(args: argparse.Namespace) -> str:
    """Train, evaluate and measure; returns the table."""
    config_file = args.config_file or f"{args.dataset}/ifa_r18.py"
    folder = Path(args.output).resolve()
    chosen = [True, False] if args.local_ensemble == "both" else [args.local_ensemble == "yes"]
    results, cfgs = [], {}
    for targets in args.targets:
        for ensemble in sorted(chosen):
            name = f"{targets}_ensemble" if ensemble else targets
            common = overrides_of(config_file, targets, ensemble, args.opts)
            cfgs[name] = load_config(config_file, common)
            result = {"name": name, "targets": targets, "local_ensemble": ensemble, "miou": {}}
            for seed in args.seeds or [cfgs[name].train.seed]:
                output = folder / name / f"seed{seed}"
                overrides = [*common, f"train.seed={seed}"]
                check_settings(output, {"config_file": config_file, "overrides": overrides})
                train(TRAIN_NET, config_file, output, overrides)
                result["miou"][str(seed)] = stride_figures(cfgs[name], output)
            results.append(result)
    if args.repeats:
        costs = measure_steps(cfgs, args.repeats)
        for result in results:
            result.update(costs[result["name"]])
    rows = table_rows(results)
    text = github_table(rows) + "\n"
    write_tables(folder, "targets", text, rows, results)
    plot(folder / "targets.png", results)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recipe = parser.add_mutually_exclusive_group(required=True)
    recipe.add_argument("--dataset", choices=("shapes", "camvid"), help="its R-18 recipe")
    recipe.add_argument("--config-file", metavar="FILE", help="another recipe (.py)")
    parser.add_argument(
        "--targets",
        nargs="+",
        choices=TARGETS,
        default=list(TARGETS),
        help="kinds of targets to train with (default: all)",
    )
    parser.add_argument(
        "--local-ensemble",
        choices=("no", "yes", "both"),
        default="both",
        help="train without, with, or one model of each (default: both)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: the recipe's")
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="steps timed of each; 0 for none (default: 5)",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder for the runs and the table"
    )
    parser.add_argument(
        "opts", nargs="*", metavar="key=value", help="change the recipe, after a lone --"
    )
    args = parser.parse_args()
    try:
        print(run(args), end="")
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()
