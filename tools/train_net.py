#!/usr/bin/env python
"""Train or evaluate a model.

    python tools/train_net.py --config-file configs/shapes/ifa_r18.py
    python tools/train_net.py --config-file configs/shapes/ifa_r18.py --eval-only \\
        train.init_checkpoint=output/shapes/ifa_r18/model_final.pth

A training needs an output directory without a run in it, or --resume; each evaluation makes a
folder of its own there, inference, inference_2 and so on.
"""

import sys

from ifa_d2.arguments import training_parser
from ifa_d2.errors import errors_in_one_line


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = training_parser(__doc__).parse_args(argv)
    from ifa_d2.cli.train_net import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
