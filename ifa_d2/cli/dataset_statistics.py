"""The work of ``tools/dataset_statistics.py``."""

import argparse

import numpy as np

from ..data.statistics import pixel_statistics
from ..engine.inputs import dataset_names
from ..engine.run import load_config


def run(args: argparse.Namespace) -> None:
    """Print the lines, and in a comment what they are of."""
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
