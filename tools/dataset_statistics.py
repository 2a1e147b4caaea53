#!/usr/bin/env python
"""Print the pixel mean and standard deviation of a data set, as lines of a recipe.

    python tools/dataset_statistics.py --config-file fields.py
    python tools/dataset_statistics.py --dataset camvid_train

Files are read one at a time; pixels without data do not count, see --nodata.
"""

import argparse
import sys

from ifa_d2.arguments import add_config_argument, add_workers_argument, command_parser
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--dataset", metavar="NAME", help="a registered data set")
    add_config_argument(
        parser,
        required=False,
        purpose="the first data set that it trains on; or that of --dataset, which it registers",
    )
    parser.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="of bands: the value that means no data, in place of the one that the data set is "
        "registered with; a file's own counts as well",
    )
    add_workers_argument(parser)
    args = parser.parse_args(argv)
    if not args.dataset and not args.config_file:
        parser.error("one of --dataset and --config-file is needed")
    return args


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.dataset_statistics import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
