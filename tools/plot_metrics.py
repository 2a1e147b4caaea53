#!/usr/bin/env python
"""Draw the training curves of runs: loss and mIoU against iterations.

    python tools/plot_metrics.py IFA=output/camvid/ifa_r18 bilinear=output/camvid/bilinear_r18 \\
        --output curves.pdf

A name has one colour in both panels; runs of one name, such as seeds, share it.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import command_parser
from ifa_d2.choices import PLOT_SUFFIXES
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]DIR", help="output folders of runs")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"file to draw: {', '.join(PLOT_SUFFIXES)}",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.plot_metrics import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
