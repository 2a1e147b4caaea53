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
import json
import sys
from pathlib import Path

import ifa_d2.data  # noqa: F401 (registers the built-in data sets)
from ifa_d2.data.check import DatasetReport, check_dataset
from ifa_d2.data.content import class_weights
from ifa_d2.engine.arguments import (
    add_config_argument,
    add_workers_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.inputs import dataset_names
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config
from ifa_d2.files import atomic_path


def parse_arguments() -> argparse.Namespace:
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
    args = parser.parse_args()
    if not args.dataset and not args.config_file:
        parser.error("one of --dataset and --config-file is needed")
    if args.class_weights is not None and not 0 <= args.class_weights <= 1:
        parser.error(f"--class-weights must be in [0, 1], got {args.class_weights}")
    return args


def weights_line(report: DatasetReport, balance: float) -> str:
    """The change of a recipe that weighs the classes of a data set."""
    weights = class_weights([count.pixels for count in report.classes], balance)
    shown = ",".join(f"{weight:.4g}" for weight in weights)
    return f"model.sem_seg_head.criterion.class_weights=[{shown}]"


def main() -> int:
    """Check what the command line names; returns the exit status."""
    # A file's name need not be UTF-8, nor a class's name be in the terminal's encoding.
    sys.stdout.reconfigure(errors="backslashreplace")
    args = parse_arguments()
    names = args.dataset
    if args.config_file:
        cfg = load_config(args.config_file)  # it may register the data sets
        both = [name for part in (True, False) for name in dataset_names(cfg, is_train=part)]
        names = names or list(dict.fromkeys(both))
    if not names:
        raise ValueError(f"{args.config_file} names no data set")
    check_command_outputs([args.json], config_file=args.config_file, datasets=names)
    reports = []
    for name in names:
        reports.append(check_dataset(name, workers=args.workers))
        print(f"\n{reports[-1].to_text()}")
        if args.class_weights is not None and reports[-1].has_labels:
            print(weights_line(reports[-1], args.class_weights))
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps([r.to_dict() for r in reports], indent=1) + "\n")
    return 0 if all(report.ok for report in reports) else 1


if __name__ == "__main__":
    with errors_in_one_line():
        sys.exit(main())
