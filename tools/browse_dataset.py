#!/usr/bin/env python
"""Draw what a config's mapper feeds its model: images and labels after augmentation, and points.

    python tools/browse_dataset.py --config-file configs/camvid/ifa_r18.py --output browse.png
    python tools/browse_dataset.py --config-file camvid/ifa_r18.py --repeats 4 --output draws.png

What is ignored, padding too, is striped; sampled points have the colours of their labels.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import (
    add_config_argument,
    add_drawing_arguments,
    add_overrides_argument,
    command_parser,
)
from ifa_d2.choices import IMAGE_SUFFIXES
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="a data set; without it the first that the config names"
    )
    parser.add_argument(
        "--test", action="store_true", help="the mapper and the data set of testing, not training"
    )
    parser.add_argument(
        "--num",
        type=int,
        default=4,
        metavar="N",
        help="number of images, evenly spread (default: 4)",
    )
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="draws of each image (default: 1)"
    )
    parser.add_argument(
        "--columns",
        type=int,
        default=1,
        metavar="N",
        help="columns of the contact sheet (default: 1)",
    )
    add_drawing_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the augmentations (default: 0)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"picture to write: {', '.join(IMAGE_SUFFIXES)}",
    )
    add_overrides_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.browse_dataset import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
