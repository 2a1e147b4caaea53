#!/usr/bin/env python3
"""Ways to bring features together, side by side on one backbone: trained alike, decoded at several
strides, of pictures at their own size and smaller.

    python projects/IFA/compare_alignments.py --config-file camvid/ifa_lite0.py \\
        --variants bilinear ifa ifa+integrated --seeds 1 2 3 --output output/alignments/camvid
    python projects/IFA/compare_alignments.py --config-file crackforest/ifa_lite0.py \\
        --variants probe ifa --seeds 1 2 3 --f1-class crack --output output/alignments/crackforest

Trains what is not trained yet, in --jobs processes side by side; a run that was stopped goes on.
Each run keeps the counts of every validation picture (counts.npz), of which tables and paired
intervals are made: see summarize_alignments.py.
"""

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parent))  # its neighbours, in any process

from alignment_counts import count_pictures, write_counts
from alignment_variants import CHANGES, METHODS, apply_variant

from ifa_d2.analysis.runs import FINAL, check_settings
from ifa_d2.engine import Trainer
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config

COUNTS = "counts.npz"


class _Trainer(Trainer):
    """Evaluation comes after the training, of more than the trainer's own."""

    @classmethod
    def test(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}


def build_config(
    config_file: str, variant: str, seed: int, output: Path, opts: Sequence[str]
) -> DictConfig:
    """The config of a run.

    Raises:
        ValueError: an unknown variant, or an override that does not fit.
    """
    cfg = load_config(config_file, opts)
    apply_variant(cfg, variant)
    cfg.train.update(seed=seed, output_dir=str(output), eval_period=0)
    return cfg


def run_one(
    config_file: str, variant: str, seed: int, output: Path, opts: Sequence[str], f1_class: str
) -> str:
    """Train a run, or what is left of it, and count; returns its folder."""
    if (output / COUNTS).is_file():
        return str(output)
    logging.getLogger("detectron2").setLevel(logging.ERROR)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    cfg = build_config(config_file, variant, seed, output, opts)
    settings = {"config_file": config_file, "variant": variant, "seed": seed, "opts": list(opts)}
    check_settings(output, settings)
    if not (output / FINAL).is_file():
        seed_all_rng(seed)
        trainer = _Trainer(cfg)
        trainer.resume_or_load(resume=True)
        trainer.train()
    model = load_model(cfg, str(output / FINAL))
    write_counts(output / COUNTS, count_pictures(cfg, model, f1_class=f1_class))
    return str(output)


def _start(threads: int) -> None:
    torch.set_num_threads(threads)


def run(args: argparse.Namespace) -> None:
    """Train and count all runs."""
    folder = Path(args.output).resolve()
    jobs = []
    for seed in args.seeds:
        for variant in args.variants:
            output = folder / variant / f"seed{seed}"
            build_config(
                args.config_file, variant, seed, output, args.opts
            )  # named before it starts
            jobs.append((args.config_file, variant, seed, output, args.opts, args.f1_class))
    if args.jobs == 1:
        for job in jobs:
            print(run_one(*job), flush=True)
        return
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, context, initializer=_start, initargs=(threads,)) as pool:
        for done in as_completed([pool.submit(run_one, *job) for job in jobs]):
            print(done.result(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"methods: {', '.join(METHODS)}; changes: {', '.join(CHANGES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="recipe (.py)")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["probe", "bilinear", "upsampling", "ifa"],
        metavar="NAME",
        help="a method, and changes joined to it by + (default: the methods)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings side by side")
    parser.add_argument("--f1-class", default="", metavar="NAME", help="class to count F1 of")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the runs")
    parser.add_argument(
        "opts", nargs="*", metavar="key=value", help="change the recipe, after a lone --"
    )
    args = parser.parse_args()
    try:
        run(args)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()
