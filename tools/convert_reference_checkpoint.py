#!/usr/bin/env python
"""Convert a checkpoint of the authors' code to one that this repository's recipes load.

    python tools/convert_reference_checkpoint.py IN.pth OUT.pth

IN.pth is ``{"model_state": ...}`` as the authors' training saves it. The result loads in
``configs/cityscapes/ifa_r50.py``, or with ASPP in ``ifa_aspp_r101.py``, with the overrides that the
command prints where the checkpoint is of another network than that recipe's.
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
        "input", type=Path, metavar="IN.pth", help="checkpoint of the authors' code"
    )
    parser.add_argument("output", type=Path, metavar="OUT.pth", help="checkpoint to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.convert_reference_checkpoint import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
