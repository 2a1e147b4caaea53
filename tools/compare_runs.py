#!/usr/bin/env python
"""Compare methods by the evaluations of their runs, with intervals.

    python tools/compare_runs.py bilinear=output/bilinear_1 bilinear=output/bilinear_2 \\
        ifa=output/ifa_1 ifa=output/ifa_2

Runs of one name are repetitions of a method, such as seeds; the i-th runs of two methods are a
pair. Each was evaluated with dataloader.evaluator.picture_counts=True, which leaves
picture_counts.npz in its folder. Printed are mean and standard deviation over the runs, then each
method minus the baseline with the interval of 95 % of a paired bootstrap over pictures and runs.
An interval of fewer than three runs says little about others than these.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import command_parser
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]DIR",
        help="output folders of runs, or of their evaluators",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="method that the others are compared with (default: the first)",
    )
    parser.add_argument(
        "--figures",
        nargs="+",
        metavar="FIGURE",
        help="of an evaluation, such as IoU-pole (default: mIoU, of the pictures and near "
        "boundaries, and F1)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.compare_runs import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
