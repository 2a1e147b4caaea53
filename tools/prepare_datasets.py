#!/usr/bin/env python
"""Make the label files that a published data set is trained with, and check all of it.

    python tools/prepare_datasets.py cityscapes ROOT

ROOT is the folder that DETECTRON2_DATASETS names; the trees that it must hold are in
projects/IFA/DATASETS.md, and what is missing is listed with where it is downloaded from. It can be
run again at any time: killed half-way, it goes on where it was; on what is complete it only checks.
"""

import argparse
import logging
from pathlib import Path

from tabulate import tabulate

from ifa_d2.data.preparation import PREPARATIONS, prepare
from ifa_d2.engine.arguments import add_workers_argument, command_parser, errors_in_one_line


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    published = ", ".join(
        f"{' + '.join(map(str, preparations[-1].counts.values()))} in {name}"
        for name, preparations in PREPARATIONS.items()
    )
    parser.add_argument("dataset", choices=list(PREPARATIONS), help="data set to prepare")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the folder of all data sets")
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="take fewer or more images than were published, for a trial: wrong numbers are a "
        f"warning ({published}); an image without annotation stays an error",
    )
    add_workers_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Prepare what the command line asks for, and say what there is."""
    args = parse_arguments()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    rows = []
    for preparation in PREPARATIONS[args.dataset]:
        counts = prepare(
            preparation, args.root, workers=args.workers, allow_partial=args.allow_partial
        )
        rows += [
            [preparation.name, split, count, preparation.counts[split], preparation.num_classes]
            for split, count in counts.items()
        ]
    print(tabulate(rows, headers=["data set", "split", "images", "published", "classes"]))
    print(f"complete and checked; set DETECTRON2_DATASETS={args.root.expanduser().absolute()}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
