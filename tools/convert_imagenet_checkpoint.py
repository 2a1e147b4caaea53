#!/usr/bin/env python
"""Convert the ImageNet weights of a ResNet to a checkpoint that the recipes start from.

    python tools/convert_imagenet_checkpoint.py IN OUT.pth

IN is a .pth file of torchvision, timm, OpenMMLab (resnet18_v1c and the like) or the scene parsing
code of MIT, the http address of one, or timm:NAME for a model that timm downloads, such as
timm:resnet18d.ra2_in1k. The command prints the overrides that a recipe needs to build that network.
All these weights want RGB pictures.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import command_parser
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("input", metavar="IN", help="a .pth file, its http address, or timm:NAME")
    parser.add_argument("output", type=Path, metavar="OUT.pth", help="checkpoint to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.convert_imagenet_checkpoint import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
