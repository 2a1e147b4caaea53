#!/usr/bin/env python
"""Print a model's parameters and multiply-adds by part, for both ways to evaluate it.

    python tools/analyze_model.py --config-file configs/cityscapes/ifa_r50.py \\
        --input-size 1024 1024 --json cost.json

The columns are ours (``macs``), textbook (``macs_textbook``) and same maps
(``macs_textbook_same_maps``); ``ifa_d2.analysis.cost`` says what each counts.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import add_config_argument, add_overrides_argument, command_parser
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="size of the picture, in pixels",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to this file")
    add_overrides_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.analyze_model import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
