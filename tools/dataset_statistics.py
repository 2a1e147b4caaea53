#!/usr/bin/env python
"""Print the pixel mean and standard deviation of a data set, as lines of a recipe.

    python tools/dataset_statistics.py --config-file fields.py
    python tools/dataset_statistics.py --dataset camvid_train

Files are read one at a time; pixels without data do not count, see --nodata.
"""

import argparse

import ifa_d2.compat  # noqa: F401 (first: it hides warnings of Detectron2's own imports)

# isort: split
import numpy as np

from ifa_d2.data.statistics import pixel_statistics
from ifa_d2.engine.arguments import (
    add_config_argument,
    add_workers_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.inputs import dataset_names
from ifa_d2.engine.run import load_config


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--dataset", metavar="NAME", help="a registered data set")
    add_config_argument(
        parser,
        required=False,
        purpose="the first data set that it trains on; or that of --dataset, which it registers",
    )
    parser.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="of bands: the value that means no data, in place of the one that the data set is "
        "registered with; a file's own counts as well",
    )
    add_workers_argument(parser)
    args = parser.parse_args()
    if not args.dataset and not args.config_file:
        parser.error("one of --dataset and --config-file is needed")
    return args


def main() -> None:
    """Print the lines, and in a comment what they are of."""
    args = parse_arguments()
    names = [args.dataset]
    if args.config_file:
        trained = dataset_names(load_config(args.config_file), is_train=True)
        names = names if args.dataset else trained
    if not names:
        raise ValueError(f"{args.config_file} trains on no data set: give --dataset")
    found = pixel_statistics(names[0], workers=args.workers, nodata=args.nodata)
    kind = "bands" if found.has_bands else "RGB"
    share = 100 * found.without_data / (found.pixels + found.without_data)
    print(f"# {names[0]}, {kind}: {found.pixels} pixels; {share:.2f} % more have no data")
    print(f"model.pixel_mean = {_list(found.mean)}")
    print(f"model.pixel_std = {_list(found.std)}")


def _list(values: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


if __name__ == "__main__":
    with errors_in_one_line():
        main()
