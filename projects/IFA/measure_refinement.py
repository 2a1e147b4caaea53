#!/usr/bin/env python3
"""Agreement and time of refined labels, against labels of every pixel.

    python projects/IFA/measure_refinement.py --config-file camvid/ifa_r18.py \\
        --input street1.png street2.png --input-size 1024 2048

For each threshold: the share of pixels that agree with dense decoding, the number of
samples asked over the number of the grid at stride 4, and the time over the time of that grid's
labels. Features are computed before the clock starts.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from compared_runs import describe_machine

from ifa_d2 import Predictor
from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.analysis.measure import alternate, median_ratio
from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.data import read_picture
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.fields import refined_labels
from ifa_d2.files import atomic_path
from ifa_d2.modeling import Refinement, SegmentationField


def measure(
    fields: Sequence[SegmentationField], thresholds: Sequence[float], repeats: int
) -> list[dict[str, Any]]:
    """Measure a row for each threshold: means over fields, at their pictures' own size."""
    rows = []
    for threshold in thresholds:
        refinement = Refinement(threshold)
        agree, asked, ratios = [], [], []
        for field in fields:
            coarse = tuple(-(-side // 4) for side in field.image_size)
            labels, share = refined_labels(field.bound, field.query(), refinement)
            agree.append(float((labels.cpu() == field.labels()).double().mean()))
            asked.append(share * labels.numel() / (coarse[0] * coarse[1]))
            functions = {
                "stride 4": partial(field.labels, coarse),
                "refined": partial(field.refined_labels, refinement=refinement),
            }
            times = alternate(functions, repeats=repeats)
            ratios.append(median_ratio(times["refined"], times["stride 4"]))
        rows.append(
            {
                "threshold": threshold,
                "agreement": statistics.mean(agree),
                "asked_ratio": statistics.mean(asked),
                "time_ratio": statistics.mean(ratios),
            }
        )
    return rows


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument("--input", nargs="+", required=True, metavar="FILE", help="pictures")
    parser.add_argument(
        "--input-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="that pictures are resized to before they are shown (default: none)",
    )
    parser.add_argument(
        "--thresholds",
        nargs="+",
        type=float,
        default=[0.1, 0.2, 0.25, 0.3, 0.5],
        metavar="T",
        help="of refinement, a row each (default: 0.1 0.2 0.25 0.3 0.5)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="timed turns (default: 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    add_overrides_argument(parser)
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {args.repeats}")
    return args


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    check_command_outputs(
        [args.json],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        others={"picture": args.input},
    )
    predictor = Predictor.build(cfg, args.weights, args.opts)
    fields = []
    for path in args.input:
        image = read_picture(path, "BGR")
        if args.input_size:
            size = tuple(reversed(args.input_size))
            image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        fields.append(predictor(image))
    rows = measure(fields, args.thresholds, args.repeats)
    table = [
        {
            "threshold": f"{row['threshold']:g}",
            "pixels equal, %": number(100 * row["agreement"], 3),
            "asked / stride 4": number(row["asked_ratio"], 2),
            "time / stride 4": number(row["time_ratio"], 2),
        }
        for row in rows
    ]
    print(f"{describe_machine()}\n\n{github_table(table)}")
    if args.json:
        with atomic_path(args.json) as partial_path:
            partial_path.write_text(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    with errors_in_one_line():
        main()
