"""Print a model's parameters and multiply-adds by part, for both ways to evaluate it.

    python tools/analyze_model.py --config-file configs/cityscapes/ifa_r50.py \\
        --input-size 1024 1024 --json cost.json

The columns are ours (``macs``), textbook (``macs_textbook``) and same maps
(``macs_textbook_same_maps``); ``ifa_d2.analysis.cost`` says what each counts.
"""

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ifa_d2.analysis.cost import analyze, report
from ifa_d2.engine.arguments import (
    add_config_argument,
    add_overrides_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config
from ifa_d2.files import atomic_path


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


def main(args: list[str] | None = None) -> None:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        required=True,
        metavar=("H", "W"),
        help="size of the picture, in pixels",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to this file")
    add_overrides_argument(parser)
    options = parser.parse_args(args)
    with errors_in_one_line():
        check_command_outputs([options.json], config_file=options.config_file)
        size = tuple(options.input_size)
        result = report(analyze(load_config(options.config_file, options.opts), size))
        print(table(result))
        if options.json is not None:
            config = {"config_file": options.config_file, "input_size": list(size)}
            with atomic_path(options.json) as temporary:
                temporary.write_text(json.dumps({**config, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
