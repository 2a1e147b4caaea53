"""The work of ``tools/analyze_model.py``."""

import argparse
import json
from typing import Any

from tabulate import tabulate

from ..analysis.cost import analyze, report
from ..engine.outputs import check_command_outputs
from ..engine.run import load_config
from ..files import atomic_path


def table(result: dict[str, Any]) -> str:
    """The report for a person."""
    keys = ("params", "macs", "macs_textbook", "macs_textbook_same_maps")
    scales = (1e6, 1e9, 1e9, 1e9)
    rows = [
        [row["name"], *(row[key] / scale for key, scale in zip(keys, scales, strict=True))]
        for row in [*result["parts"], {"name": "total", **result}]
    ]
    headers = ["part", "params (M)", "ours (G)", "textbook (G)", "same maps (G)"]
    return tabulate(rows, headers=headers, floatfmt=("", ".3f", ".2f", ".2f", ".2f"))


def run(args: argparse.Namespace) -> None:
    """Count, print the table, and write the JSON where asked."""
    check_command_outputs([args.json], config_file=args.config_file)
    size = tuple(args.input_size)
    result = report(analyze(load_config(args.config_file, args.opts), size))
    print(table(result))
    if args.json is not None:
        config = {"config_file": args.config_file, "input_size": list(size)}
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps({**config, **result}, indent=2) + "\n")
