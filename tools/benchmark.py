#!/usr/bin/env python
"""Speed and memory, ours against others in turn: medians and ratios, never a lone time.

    python tools/benchmark.py head      [--input-size H W] [--json FILE]
    python tools/benchmark.py growth    [--full] [--plot FILE] [--json FILE]
    python tools/benchmark.py peers     [--full] [--json FILE]
    python tools/benchmark.py evaluator [--input-size H W] [--classes K] [--json FILE]
    python tools/benchmark.py panoptic  [--input-size H W] [--parts model branch] [--json FILE]
    python tools/benchmark.py startup   [--json FILE]
    python tools/benchmark.py upsamplers [--sides S ...] [--classes K] [--json FILE]

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
startup times how long each command takes to its help, and a training to its first line.
upsamplers
        times labels of every pixel over features of stride 16: linear and bilinear, IFA, CARAFE and
        SAPA; and reckons those of FeatUp, JAFAR, AnyUp and NAF from their layers.

Nothing else should run on the machine meanwhile.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ifa_d2.arguments import command_parser
from ifa_d2.commands import COMMANDS
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line: a command, and its arguments."""
    parser = command_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_head(commands)
    _add_growth(commands)
    _add_peers(commands)
    _add_evaluator(commands)
    _add_panoptic(commands)
    _add_startup(commands)
    _add_upsamplers(commands)
    for command in commands.choices.values():
        command.add_argument("--device", default="cpu", help="cpu (default) or cuda")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
        command.add_argument(
            "--markdown", type=Path, metavar="FILE", help="also write command and tables there"
        )
    args = parser.parse_args(argv)
    _check(commands.choices[args.command], args)
    return args


def _add_head(commands: Any) -> None:
    head = commands.add_parser("head", help="the head against its textbook evaluation")
    _add_size(head, "size of the picture, in pixels (default: 512 512 and 1024 1024)")
    _add_repeats(head, 7)


def _add_growth(commands: Any) -> None:
    growth = commands.add_parser(
        "growth", help="time and memory of a field's labels against their number"
    )
    _add_size(growth, "size of the picture whose levels are decoded, in pixels", (512, 1024))
    growth.add_argument(
        "--megapixels",
        type=float,
        nargs="+",
        default=[1.0, 4.0, 16.0, 64.0],
        metavar="N",
        help="sizes of the output, with the first number of classes (default: 1 4 16 64)",
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
        help="size of the output at which numbers of classes are compared (default: 4)",
    )
    growth.add_argument(
        "--stride-ratios",
        type=int,
        nargs="+",
        default=[1, 2, 4],
        metavar="R",
        help="ratios of one level's stride to the next finer's, compared at the picture's own size "
        "(default: 1 2 4; the model's is 2)",
    )
    growth.add_argument(
        "--points",
        type=int,
        nargs="+",
        default=[1_000, 10_000, 100_000, 1_000_000],
        metavar="P",
        help="numbers of single points whose logits are computed (default: 1000 to 1000000)",
    )
    growth.add_argument(
        "--full",
        action="store_true",
        help="also 100 megapixels, with the first number of classes and with 150 (many minutes)",
    )
    growth.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the growth there, as .png, .pdf or .svg"
    )
    _add_repeats(growth, 3)


def _add_peers(commands: Any) -> None:
    peers = commands.add_parser(
        "peers", help="whole R-50 models of Detectron2, in inference and training"
    )
    _add_size(peers, "size of the picture, in pixels (default: 512 512 and 1024 2048)")
    peers.add_argument(
        "--full", action="store_true", help="training at 1024 2048 too, which takes long"
    )
    peers.add_argument(
        "--memory-format",
        choices=("channels_last", "contiguous"),
        default="channels_last",
        help="memory format of all models' weights (default: channels_last)",
    )
    _add_repeats(peers, 3)


def _add_evaluator(commands: Any) -> None:
    evaluator = commands.add_parser("evaluator", help="the evaluator against Detectron2's")
    _add_size(evaluator, "size of the picture, in pixels", (1024, 2048))
    evaluator.add_argument(
        "--classes", type=int, default=19, metavar="K", help="classes of the data set (default: 19)"
    )
    _add_repeats(evaluator, 7)


def _add_panoptic(commands: Any) -> None:
    panoptic = commands.add_parser("panoptic", help="Panoptic FPN with IFA and without")
    _add_size(panoptic, "size of the picture, in pixels", (800, 1216))
    panoptic.add_argument(
        "--parts",
        nargs="+",
        choices=("model", "branch"),
        default=["model", "branch"],
        help="the whole model, the semantic branch alone (default: both)",
    )
    _add_repeats(panoptic, 5)


def _add_startup(commands: Any) -> None:
    startup = commands.add_parser("startup", help="the time until a command says something")
    startup.add_argument(
        "--commands",
        nargs="+",
        choices=COMMANDS,
        default=list(COMMANDS),
        metavar="NAME",
        help=f"whose help is waited for, of {', '.join(COMMANDS)} (default: all)",
    )
    _add_repeats(startup, 5)


def _add_upsamplers(commands: Any) -> None:
    upsamplers = commands.add_parser(
        "upsamplers", help="labels of every pixel from features of stride 16"
    )
    upsamplers.add_argument(
        "--sides",
        type=int,
        nargs="+",
        default=[448, 896, 2048, 8192],
        metavar="S",
        help="of the square pictures, multiples of 16 pixels (default: 448 896 2048 8192)",
    )
    upsamplers.add_argument(
        "--classes", type=int, default=150, metavar="K", help="number of classes (default: 150)"
    )
    upsamplers.add_argument(
        "--max-gib",
        type=float,
        default=8.0,
        metavar="G",
        help="what would hold more is not run (default: 8)",
    )
    _add_repeats(upsamplers, 3)


def _add_size(
    command: argparse.ArgumentParser, text: str, default: tuple[int, int] | None = None
) -> None:
    text += f" (default: {default[0]} {default[1]})" if default else ""
    command.add_argument(
        "--input-size", type=int, nargs=2, metavar=("H", "W"), default=default, help=text
    )


def _add_repeats(command: argparse.ArgumentParser, default: int) -> None:
    command.add_argument(
        "--repeats",
        type=int,
        default=default,
        metavar="N",
        help=f"timed turns (default: {default})",
    )


def _check(command: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop with a message that names the argument that is out of range."""
    for name in ("repeats", "classes", "stride_ratios", "points", "input_size", "sides"):
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


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.benchmark import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
