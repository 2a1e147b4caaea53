#!/usr/bin/env python
"""Make the label files of a published data set, or a recipe for a folder of your own.

    python tools/prepare_datasets.py cityscapes ROOT
    python tools/prepare_datasets.py folder PATH --output leaves.py
    python tools/prepare_datasets.py folder IMAGES LABELS --output leaves.py

ROOT is the folder that DETECTRON2_DATASETS names; the trees that it must hold are in
projects/IFA/DATASETS.md, and what is missing is listed with where it is downloaded from. It can be
run again at any time: killed half-way, it goes on where it was; on what is complete it only checks.

PATH is a folder of images and labels in any layout: label pictures of ids, colours or 0 and 255,
LabelMe's files, or COCO's. What they are is found out, every file is checked, and a recipe that
trains on them is written, with tables of the pairs and a picture of some of them.
"""

import argparse
import sys
from pathlib import Path

from ifa_d2.arguments import add_workers_argument, command_parser
from ifa_d2.choices import FOLDER, PREPARED_DATASETS
from ifa_d2.errors import errors_in_one_line


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    published = ", ".join(
        f"{' + '.join(map(str, counts))} in {name}" for name, counts in PREPARED_DATASETS.items()
    )
    parser.add_argument("dataset", choices=[*PREPARED_DATASETS, FOLDER], help="data set to prepare")
    parser.add_argument(
        "root",
        type=Path,
        nargs="+",
        metavar="ROOT",
        help="the folder of all data sets; or PATH, or IMAGES LABELS",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="take fewer or more images than were published, for a trial: wrong numbers are a "
        f"warning ({published}); an image without annotation stays an error",
    )
    add_workers_argument(parser)
    own = parser.add_argument_group("of a folder of your own")
    own.add_argument(
        "--output", type=Path, metavar="FILE", help="the recipe (default: ./<name of PATH>.py)"
    )
    own.add_argument("--freeze", action="store_true", help="do not train the backbone: faster")
    own.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names in the order of ids or, where these have gaps, of sorted values or colours",
    )
    own.add_argument(
        "--ignore-label", type=int, metavar="ID", help="of label pictures (default: 255)"
    )
    own.add_argument(
        "--short-edge",
        type=int,
        metavar="N",
        help="pixels of the shorter side (default: the median of the pictures, 512 at most)",
    )
    own.add_argument(
        "--overwrite", action="store_true", help="replace a recipe and its tables that are there"
    )
    args = parser.parse_args(argv)
    of_folder = ("output", "freeze", "classes", "ignore_label", "short_edge", "overwrite")
    unused = ["allow_partial"] if args.dataset == FOLDER else of_folder
    if given := [one for one in unused if getattr(args, one) not in (None, False, [])]:
        parser.error(f"--{given[0].replace('_', '-')} is not an option of {args.dataset}")
    if args.dataset != FOLDER and len(args.root) > 1:
        parser.error(f"{args.dataset} takes one ROOT, got {len(args.root)}")
    return args


def main(argv: list[str] | None = None) -> int | None:
    """Do what the command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    from ifa_d2.cli.prepare_datasets import run  # only now: --help waits for no library

    return run(arguments)


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
