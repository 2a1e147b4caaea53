"""The work of ``tools/benchmark.py``."""

import argparse
import json
import os
import sys
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's chatter

import torch

from ..analysis.benchmarks import (
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
    run_startup,
    run_upsamplers,
    startup_tables,
    upsamplers_tables,
)
from ..analysis.measure import device_name
from ..commands import command_line
from ..files import atomic_path
from ..visualization import check_plot_path

FULL_MEGAPIXELS = 100.0  # of --full in growth
FULL_CLASSES = 150
LARGE = (1024, 2048)  # (height, width) of a picture of Cityscapes, in pixels


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


def benchmark_startup(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``startup`` command."""
    result = run_startup(commands=args.commands, repeats=args.repeats)
    return result, startup_tables(result)


def benchmark_upsamplers(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure the ``upsamplers`` command."""
    result = run_upsamplers(
        sides=args.sides,
        num_classes=args.classes,
        repeats=args.repeats,
        device=args.device,
        max_gib=args.max_gib,
    )
    return result, upsamplers_tables(result)


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
    "startup": benchmark_startup,
    "upsamplers": benchmark_upsamplers,
}


def run(args: argparse.Namespace) -> None:
    """Measure, print the tables, and write them where asked."""
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {args.device} cannot be used: {str(error).splitlines()[0]}"
        ) from error
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
