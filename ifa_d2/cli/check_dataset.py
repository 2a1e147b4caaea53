"""The work of ``tools/check_dataset.py``."""

import argparse
import json
import sys

from .. import data  # noqa: F401 (registers the built-in data sets)
from ..data.check import DatasetReport, check_dataset
from ..data.content import class_weights
from ..engine.inputs import dataset_names
from ..engine.outputs import check_command_outputs
from ..engine.run import load_config
from ..files import atomic_path


def weights_line(report: DatasetReport, balance: float) -> str:
    """The change of a recipe that weighs the classes of a data set."""
    weights = class_weights([count.pixels for count in report.classes], balance)
    shown = ",".join(f"{weight:.4g}" for weight in weights)
    return f"model.sem_seg_head.criterion.class_weights=[{shown}]"


def run(args: argparse.Namespace) -> int:
    """Check what the command line names; returns the exit status."""
    # A file's name need not be UTF-8, nor a class's name be in the terminal's encoding.
    sys.stdout.reconfigure(errors="backslashreplace")
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
