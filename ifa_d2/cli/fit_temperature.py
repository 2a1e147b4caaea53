"""The work of ``tools/fit_temperature.py``."""

import argparse

from tabulate import tabulate

from ..engine.build import test_dataset_names
from ..engine.outputs import check_command_outputs
from ..engine.predictor import Predictor, find_weights
from ..engine.run import load_config
from ..engine.settings import TrainSettings
from ..engine.temperature import (
    check_checkpoint_path,
    sample_logits,
    save_with_temperature,
)
from ..evaluation.calibration import fit_temperature, held_out_sample


def run(args: argparse.Namespace) -> None:
    """Fit, say what came out, and write the checkpoint."""
    cfg = load_config(args.config_file, args.opts)
    check_checkpoint_path(args.output)
    names = [args.dataset] if args.dataset else test_dataset_names(cfg)
    if not names:
        raise ValueError(f"{args.config_file} tests on no data set: give --dataset")
    check_command_outputs(
        [args.output],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
    )
    weights = args.weights or find_weights(TrainSettings.from_config(cfg), args.opts)
    predictor = Predictor.build(cfg, weights, args.opts)
    sample = sample_logits(predictor, names[0], pixels=args.pixels, seed=args.seed)
    temperature = fit_temperature(sample)
    held_out, halves = held_out_sample(sample)
    save_with_temperature(predictor.model, weights, temperature, args.output)
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
    print(f"checkpoint with the temperature: {args.output}")
