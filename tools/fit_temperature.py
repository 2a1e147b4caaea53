#!/usr/bin/env python
"""Fit the temperature of a trained model, so that its probabilities say how often they are right.

    python tools/fit_temperature.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --output calibrated.pth

Logits are divided by the temperature before they become probabilities (Guo et al. 2017). It is
fitted by the negative log likelihood (NLL) of labelled pixels, which the model must not have been
trained on: by default those of the config's test data. The new checkpoint is the old one with the
temperature in it; labels do not change. What is printed as "with it" is measured on pictures that
the temperature was not fitted on: each half of the pictures with the temperature of the other half.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="labelled pictures to fit on; default: the config's test"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the new checkpoint, a .pth"
    )
    parser.add_argument(
        "--pixels",
        type=int,
        default=100_000,
        metavar="N",
        help="labelled pixels to fit on, alike of all pictures; they are held (default: 100000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the choice of pixels (default: 0)"
    )
    add_overrides_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.fit_temperature import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
