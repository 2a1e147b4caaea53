#!/usr/bin/env python3
"""Speed and memory, ours against others in turn: medians and ratios, never a lone time.

    python tools/benchmark.py head      [--input-size H W] [--json FILE]
    python tools/benchmark.py growth    [--full] [--plot FILE] [--json FILE]
    python tools/benchmark.py peers     [--full] [--json FILE]
    python tools/benchmark.py evaluator [--input-size H W] [--classes K] [--json FILE]
    python tools/benchmark.py panoptic  [--input-size H W] [--parts model branch] [--json FILE]

head    times `layers` of the segmentation head (projections, alignment, MLP) against the textbook
        evaluation of the same parameters: concatenate, then MLP. `gemm_ratio` is the time of ours
        over that of its own matrix products run alone.
growth  times the labels of a field, and watches the memory beyond them, against output
        megapixels, classes, the levels' stride ratio and points, and fits the exponents.
peers   times whole models, in inference and training: IFA, and SemSegFPNHead, PointRend and
        DeepLabV3+ as Detectron2 has them, as ratios to IFA.
evaluator
        times the evaluator on one picture against Detectron2's, from logits and label file on.
panoptic
        times Panoptic FPN with IFA and with its own semantic head: whole models and that branch
        alone, in inference and training.

Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import os
import sys
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's chatter

import torch

from ifa_d2.analysis.benchmarks import (
    PANOPTIC_CASES,
    evaluator_tables,
    growth_tables,
    head_tables,
    panoptic_tables,
    peers_tables,
    plot_growth,
    run_evaluator,
    run_growth,
    run_head,
    run_panoptic,
    run_peers,
)
from ifa_d2.analysis.benchmarks.parser import (
    FULL_CLASSES,
    FULL_MEGAPIXELS,
    LARGE,
    parse_arguments,
)
from ifa_d2.analysis.measure import device_name
from ifa_d2.commands import command_line
from ifa_d2.engine.arguments import errors_in_one_line
from ifa_d2.files import atomic_path
from ifa_d2.visualization import check_plot_path


def benchmark_head(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``head`` command: its JSON and its tables."""
    sizes = [tuple(args.input_size)] if args.input_size else [(512, 512), (1024, 1024)]
    result = run_head(input_sizes=sizes, repeats=args.repeats, device=args.device)
    return result, head_tables(result)


def benchmark_growth(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``growth`` command; draw it where asked."""
    if args.plot:
        check_plot_path(args.plot)
    grids = [(megapixels, args.classes[0]) for megapixels in args.megapixels]
    grids += [(args.class_megapixels, classes) for classes in args.classes]
    if args.full:
        grids += [(FULL_MEGAPIXELS, args.classes[0]), (FULL_MEGAPIXELS, FULL_CLASSES)]
    result = run_growth(
        input_size=tuple(args.input_size),
        grids=list(dict.fromkeys(grids)),  # each once
        stride_ratios=args.stride_ratios,
        points=args.points,
        repeats=args.repeats,
        device=args.device,
    )
    if args.plot:
        plot_growth(result, args.plot)
    return result, growth_tables(result)


def benchmark_peers(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``peers`` command."""
    sizes = [tuple(args.input_size)] if args.input_size else [(512, 512), LARGE]
    cases = [(size, "forward") for size in sizes]
    cases += [(size, "train") for size in sizes if args.full or args.input_size or size != LARGE]
    result = run_peers(
        cases=cases,
        repeats=args.repeats,
        device=args.device,
        channels_last=args.memory_format == "channels_last",
    )
    return result, peers_tables(result)


def benchmark_evaluator(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``evaluator`` command."""
    result = run_evaluator(
        input_size=tuple(args.input_size),
        num_classes=args.classes,
        repeats=args.repeats,
        device=args.device,
    )
    return result, evaluator_tables(result)


def benchmark_panoptic(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``panoptic`` command."""
    result = run_panoptic(
        input_size=tuple(args.input_size),
        repeats=args.repeats,
        device=args.device,
        cases=[case for case in PANOPTIC_CASES if case[0] in args.parts],
    )
    return result, panoptic_tables(result)


def machine(device: str) -> dict[str, Any]:
    """Circumstances of the figures."""
    name = device_name(device)
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


COMMANDS = {
    "head": benchmark_head,
    "growth": benchmark_growth,
    "peers": benchmark_peers,
    "evaluator": benchmark_evaluator,
    "panoptic": benchmark_panoptic,
}


def main() -> None:
    args = parse_arguments(__doc__)
    result, tables = COMMANDS[args.command](args)
    result = {"machine": machine(args.device), **result}
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    print(f"{tables}\n\n{where}")
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    if args.markdown:
        command = command_line("benchmark", *sys.argv[1:])
        with atomic_path(args.markdown) as temporary:
            temporary.write_text(f"```\n{command}\n```\n\n{where}\n\n{tables}\n")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
