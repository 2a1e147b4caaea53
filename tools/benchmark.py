#!/usr/bin/env python3
"""Speed and memory, ours against others in turn: medians and ratios, never a lone time.

    tools/benchmark.py head      [--input-size H W] [--compile] [--json FILE]
    tools/benchmark.py growth    [--full] [--plot FILE] [--json FILE]
    tools/benchmark.py peers     [--full] [--json FILE]
    tools/benchmark.py evaluator [--input-size H W] [--classes K] [--json FILE]
    tools/benchmark.py panoptic  [--input-size H W] [--parts model branch] [--json FILE]

head    times `layers` of the segmentation head (projections, alignment, MLP) against the textbook
        evaluation of the same parameters: concatenate, then MLP. `gemm_ratio` is the time of ours
        over that of its own matrix products run alone.
growth  times labels asked of a field, and watches the memory beyond them, against output
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
import shlex
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's chatter

import torch

from ifa_d2.engine.benchmarks import (
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
from ifa_d2.engine.measure import device_name
from ifa_d2.files import atomic_path

_FULL_MEGAPIXELS = 100.0
_FULL_CLASSES = 150
_LARGE = (1024, 2048)


def benchmark_head(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What the ``head`` command measures, as it goes into JSON and as tables."""
    sizes = [tuple(args.input_size)] if args.input_size else [(512, 512), (1024, 1024)]
    result = run_head(
        input_sizes=sizes, repeats=args.repeats, device=args.device, compiled=args.compile
    )
    return result, head_tables(result)


def benchmark_growth(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What the ``growth`` command measures; draws it where asked."""
    grids = [(megapixels, args.classes[0]) for megapixels in args.megapixels]
    grids += [(args.class_megapixels, classes) for classes in args.classes]
    if args.full:
        grids += [(_FULL_MEGAPIXELS, args.classes[0]), (_FULL_MEGAPIXELS, _FULL_CLASSES)]
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
    """What the ``peers`` command measures."""
    sizes = [tuple(args.input_size)] if args.input_size else [(512, 512), _LARGE]
    cases = [(size, "forward") for size in sizes]
    cases += [(size, "train") for size in sizes if args.full or args.input_size or size != _LARGE]
    result = run_peers(
        cases=cases,
        repeats=args.repeats,
        device=args.device,
        channels_last=args.memory_format == "channels_last",
    )
    return result, peers_tables(result)


def benchmark_evaluator(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What the ``evaluator`` command measures."""
    result = run_evaluator(
        input_size=tuple(args.input_size),
        num_classes=args.classes,
        repeats=args.repeats,
        device=args.device,
    )
    return result, evaluator_tables(result)


def benchmark_panoptic(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What the ``panoptic`` command measures."""
    result = run_panoptic(
        input_size=tuple(args.input_size),
        repeats=args.repeats,
        device=args.device,
        cases=[case for case in PANOPTIC_CASES if case[0] in args.parts],
    )
    return result, panoptic_tables(result)


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    name = device_name(device)
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_head(commands)
    _add_growth(commands)
    _add_peers(commands)
    _add_evaluator(commands)
    _add_panoptic(commands)
    for command in commands.choices.values():
        command.add_argument("--device", default="cpu", help="cpu (default) or cuda")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
        command.add_argument(
            "--markdown", type=Path, metavar="FILE", help="also write command and tables there"
        )
    args = parser.parse_args()
    _check(commands.choices[args.command], args)
    return args


def _add_head(commands: Any) -> None:
    head = commands.add_parser("head", help="the head against its textbook evaluation")
    _add_size(head, "of the picture, in pixels (default: 512 512 and 1024 1024)")
    head.add_argument(
        "--compile", action="store_true", help="also time the decode under torch.compile"
    )
    _add_repeats(head, 7)
    head.set_defaults(run=benchmark_head)


def _add_growth(commands: Any) -> None:
    growth = commands.add_parser(
        "growth", help="time and memory of a field's answer against what is asked"
    )
    _add_size(growth, "of the picture whose levels are asked, in pixels", (512, 1024))
    growth.add_argument(
        "--megapixels",
        type=float,
        nargs="+",
        default=[1.0, 4.0, 16.0, 64.0],
        metavar="N",
        help="sizes of the answer, asked with the first number of classes (default: 1 4 16 64)",
    )
    growth.add_argument(
        "--classes",
        type=int,
        nargs="+",
        default=[19, 150, 1000],
        metavar="K",
        help="numbers of classes, compared at --class-megapixels (default: 19 150 1000)",
    )
    growth.add_argument(
        "--class-megapixels",
        type=float,
        default=4.0,
        metavar="N",
        help="size of the answer at which numbers of classes are compared (default: 4)",
    )
    growth.add_argument(
        "--stride-ratios",
        type=int,
        nargs="+",
        default=[1, 2, 4],
        metavar="R",
        help="of one level's stride to that of the next finer one, compared at the picture's own "
        "size (default: 1 2 4; the model's is 2)",
    )
    growth.add_argument(
        "--points",
        type=int,
        nargs="+",
        default=[1_000, 10_000, 100_000, 1_000_000],
        metavar="P",
        help="numbers of single points asked for logits (default: 1000 to 1000000)",
    )
    growth.add_argument(
        "--full",
        action="store_true",
        help=f"also {_FULL_MEGAPIXELS:g} megapixels, with the first number of classes and with "
        f"{_FULL_CLASSES} (many minutes)",
    )
    growth.add_argument("--plot", type=Path, metavar="FILE", help="draw the growth there, as PNG")
    _add_repeats(growth, 3)
    growth.set_defaults(run=benchmark_growth)


def _add_peers(commands: Any) -> None:
    peers = commands.add_parser(
        "peers", help="whole R-50 models of Detectron2, in inference and training"
    )
    _add_size(peers, "of the picture, in pixels (default: 512 512 and 1024 2048)")
    peers.add_argument(
        "--full", action="store_true", help="training at 1024 2048 too, which takes long"
    )
    peers.add_argument(
        "--memory-format",
        choices=("channels_last", "contiguous"),
        default="channels_last",
        help="of all models' weights (default: channels_last)",
    )
    _add_repeats(peers, 3)
    peers.set_defaults(run=benchmark_peers)


def _add_evaluator(commands: Any) -> None:
    evaluator = commands.add_parser("evaluator", help="the evaluator against Detectron2's")
    _add_size(evaluator, "of the picture, in pixels", _LARGE)
    evaluator.add_argument(
        "--classes", type=int, default=19, metavar="K", help="of the data set (default: 19)"
    )
    _add_repeats(evaluator, 7)
    evaluator.set_defaults(run=benchmark_evaluator)


def _add_panoptic(commands: Any) -> None:
    panoptic = commands.add_parser("panoptic", help="Panoptic FPN with IFA and without")
    _add_size(panoptic, "of the picture, in pixels", (800, 1216))
    panoptic.add_argument(
        "--parts",
        nargs="+",
        choices=("model", "branch"),
        default=["model", "branch"],
        help="the whole model, the semantic branch alone (default: both)",
    )
    _add_repeats(panoptic, 5)
    panoptic.set_defaults(run=benchmark_panoptic)


def _add_size(
    command: argparse.ArgumentParser, text: str, default: tuple[int, int] | None = None
) -> None:
    text += f" (default: {default[0]} {default[1]})" if default else ""
    command.add_argument(
        "--input-size", type=int, nargs=2, metavar=("H", "W"), default=default, help=text
    )


def _add_repeats(command: argparse.ArgumentParser, default: int) -> None:
    command.add_argument(
        "--repeats", type=int, default=default, help=f"timed turns (default: {default})"
    )


def _check(command: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop with a message that names the argument that is out of range."""
    for name in ("repeats", "classes", "stride_ratios", "points", "input_size"):
        value = getattr(args, name, None)
        if value is not None and min(value if isinstance(value, list | tuple) else [value]) < 1:
            command.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if args.command == "evaluator" and not 2 <= args.classes <= 254:
        command.error(f"--classes must be from 2 to 254, got {args.classes}")
    for name in ("megapixels", "class_megapixels"):
        value = getattr(args, name, None)
        values = value if isinstance(value, list) else [value]
        if value is not None and not all(0 < number <= 1e6 for number in values):
            command.error(f"--{name.replace('_', '-')} must be in (0, 1e6], got {value}")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        command.error(f"--device {args.device} cannot be used: {str(error).splitlines()[0]}")


def main() -> None:
    args = parse_args()
    result, tables = args.run(args)
    result = {"machine": machine(args.device), **result}
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    print(f"{tables}\n\n{where}")
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    if args.markdown:
        command = shlex.join(["python", "tools/benchmark.py", *sys.argv[1:]])
        with atomic_path(args.markdown) as temporary:
            temporary.write_text(f"```\n{command}\n```\n\n{where}\n\n{tables}\n")


if __name__ == "__main__":
    main()
