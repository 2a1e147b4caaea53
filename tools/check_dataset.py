#!/usr/bin/env python
"""Open every file of a data set and say what is in it; status 1 if any file is bad.

    python tools/check_dataset.py --dataset camvid_train camvid_val --json camvid.json
    python tools/check_dataset.py --config-file configs/camvid/ifa_r18.py
    python tools/check_dataset.py --dataset camvid_train --class-weights 1

Images and labels must open and have one size, and ids must be classes or the label to ignore.
Labels that all hold one class alone, as masks of 0 and 255 do, are bad too. What may be meant, such
as a class that is in no label, is a warning, which leaves the status as it is.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import add_config_argument, add_workers_argument, command_parser
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="registered data sets")
    add_config_argument(
        parser,
        required=False,
        purpose="the data sets that it names; or those of --dataset, which it registers",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the reports there")
    parser.add_argument(
        "--class-weights",
        type=float,
        metavar="BALANCE",
        help="also print weights of the classes for a loss, as a change of a recipe: 1 gives all "
        "classes the same part in it, 0.5 weighs by the square root",
    )
    add_workers_argument(parser)
    args = parser.parse_args(argv)
    if not args.dataset and not args.config_file:
        parser.error("one of --dataset and --config-file is needed")
    if args.class_weights is not None and not 0 <= args.class_weights <= 1:
        parser.error(f"--class-weights must be in [0, 1], got {args.class_weights}")
    return args


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.check_dataset import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
