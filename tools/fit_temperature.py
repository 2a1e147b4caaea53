#!/usr/bin/env python
"""Fit the temperature of a trained model, so that its probabilities say how often they are right.

    python tools/fit_temperature.py --config-file camvid/ifa_lite0_frozen.py \\
        --weights ifa_d2://camvid/ifa_lite0_frozen --output calibrated.pth

Logits are divided by the temperature before they become probabilities (Guo et al. 2017). It is
fitted by the negative log likelihood (NLL) of labelled pixels, which the model must not have been
trained on: by default those of the config's test data. The new checkpoint is the old one with the
temperature in it; labels do not change. What is printed as "with it" is measured on pictures that
the temperature was not fitted on: each half of the pictures with the temperature of the other half.
"""

import argparse
from pathlib import Path

import ifa_d2.compat  # noqa: F401 (first: it hides warnings of Detectron2's own imports)

# isort: split
from tabulate import tabulate

from ifa_d2.engine.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
    errors_in_one_line,
)
from ifa_d2.engine.build import test_dataset_names
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.predictor import Predictor, find_weights
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.engine.temperature import (
    check_checkpoint_path,
    sample_logits,
    save_with_temperature,
)
from ifa_d2.evaluation.calibration import fit_temperature, held_out_sample


def parse_arguments(args: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="labelled pictures to fit on; default: the config's test"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the new checkpoint, a .pth"
    )
    parser.add_argument(
        "--pixels",
        type=int,
        default=100_000,
        metavar="N",
        help="labelled pixels to fit on, alike of all pictures; they are held (default: 100000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the choice of pixels (default: 0)"
    )
    add_overrides_argument(parser)
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> None:
    """Fit, say what came out, and write the checkpoint."""
    options = parse_arguments(args)
    cfg = load_config(options.config_file, options.opts)
    check_checkpoint_path(options.output)
    names = [options.dataset] if options.dataset else test_dataset_names(cfg)
    if not names:
        raise ValueError(f"{options.config_file} tests on no data set: give --dataset")
    check_command_outputs(
        [options.output],
        config_file=options.config_file,
        model=(cfg, options.weights, options.opts),
    )
    weights = options.weights or find_weights(TrainSettings.from_config(cfg), options.opts)
    predictor = Predictor.build(cfg, weights, options.opts)
    sample = sample_logits(predictor, names[0], pixels=options.pixels, seed=options.seed)
    temperature = fit_temperature(sample)
    held_out, halves = held_out_sample(sample)
    save_with_temperature(predictor.model, weights, temperature, options.output)
    pictures = len(sample.pictures.unique())
    print(
        f"{names[0]}: {len(sample.labels)} pixels of {pictures} pictures\n"
        f"temperature {temperature:.4f} (of either half: {halves[0]:.4f}, {halves[1]:.4f})"
    )
    rows = [
        ["NLL, nats", f"{sample.nll():.4f}", f"{held_out.nll():.4f}"],
        ["ECE, %", *(f"{100 * one.calibration_error():.2f}" for one in (sample, held_out))],
    ]
    print(tabulate(rows, ["", "without it", "with it"], "github", disable_numparse=True))
    print(f"checkpoint with the temperature: {options.output}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
