#!/usr/bin/env python3
"""What a trained model's answers owe to positions.

    python projects/IFA/ablate_positions.py --config-file camvid/ifa_lite0_stride2.py \\
        --weights ifa_d2://camvid/ifa_lite0_stride2 --output output/positions

The position encodings are replaced by their means over a cell, which tell no place from another;
all else stays as it was trained. The first test set is counted both ways, in each setting: the
input's size as a share of the picture's, and the stride of decoding, in pixels of the picture.
Writes DIR/as_trained/counts/SETTING and DIR/averaged/counts/SETTING, which tools/compare_runs.py
takes, and prints the difference with its interval over the pictures.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from alignment_counts import count_pictures, counts_file, parse_setting
from compared_runs import describe_machine
from torch import Tensor

from ifa_d2.analysis.benchmarks.tables import github_table
from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.evaluation.comparison import compare
from ifa_d2.layers import ImplicitAlignment

KINDS = ("as_trained", "averaged")
SHOWN = ("mIoU", "mBoundaryIoU_")  # how their names begin
_PLACES = 256  # in a cell, along an axis


def average_positions(alignment: ImplicitAlignment) -> None:
    """Replace the encodings of a layer by their means over the places in a cell.

    With the local ensemble, over those between two cells, as they are weighted there.

    Args:
        alignment: changed in place.

    Raises:
        ValueError: a layer without positions, whose frequencies act on both axes together, or with
            slopes, which would go on telling places apart.
    """
    encodings = list(alignment.encodings)
    if not encodings[0].num_features:
        raise ValueError("the alignment must have positions to average, got encoding 'none'")
    if encodings[0].coupled:
        raise ValueError("coupled_frequencies must be False to average each axis, got True")
    if alignment.feature_slopes:
        raise ValueError("feature_slopes must be False: slopes are positions too, got True")
    for encoding in encodings:
        encoding.encode_axis = _mean(encoding.encode_axis, alignment.local_ensemble)


def _mean(encode: Callable[..., Tensor], ensemble: bool) -> Callable[..., Tensor]:
    place = (torch.arange(_PLACES, dtype=torch.float64) + 0.5) / _PLACES
    offsets, weights = (2 * place - 1)[None], torch.ones(1, _PLACES, dtype=torch.float64)
    if ensemble:  # from a cell's centre to the next one's
        offsets = torch.stack([2 * place, 2 * place - 2])
        weights = torch.stack([1 - place, place])

    def mean(offset: Tensor, width: Tensor, axis: int) -> Tensor:
        if width.dim():
            raise ValueError("positions are averaged on grids, whose samples are of one width")
        values = encode(offsets.to(offset), width, axis)  # (T, places, f)
        value = (values * weights.to(offset)[..., None]).sum(0).mean(0)
        return value.expand(*offset.shape, -1)

    return mean


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["1/4", "1/1", "0.5/1"],
        metavar="SCALE/STRIDE",
        help="default: 1/4 1/1 0.5/1",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the counts")
    add_overrides_argument(parser)
    args = parser.parse_args()
    for setting in args.settings:
        parse_setting(setting)
    return args


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    files = {
        (kind, setting): counts_file(args.output / kind, setting)
        for kind in KINDS
        for setting in args.settings
    }
    check_command_outputs(
        files.values(), config_file=args.config_file, model=(cfg, args.weights, args.opts)
    )
    model = load_model(cfg, args.weights, args.opts)
    found = {}
    for kind in KINDS:
        if kind == "averaged":
            average_positions(model.sem_seg_head.alignment)
        for setting, counts in count_pictures(cfg, model, settings=args.settings).items():
            counts.write(files[kind, setting])
            found[kind, setting] = {str(args.output): counts}
    rows = []
    for setting in args.settings:
        intervals = compare(found["averaged", setting], found["as_trained", setting])
        shown = {name: str(one) for name, one in intervals.items() if name.startswith(SHOWN)}
        rows.append({"averaged - as trained": setting, **shown})
    print(f"{describe_machine()}\n\n{github_table(rows)}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
