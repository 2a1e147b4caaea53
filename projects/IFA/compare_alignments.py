#!/usr/bin/env python3
"""Comparison of alignment methods on one backbone.

They are trained alike and decoded at several strides, of pictures at their own size and smaller.

    python projects/IFA/compare_alignments.py --config-file camvid/ifa_lite0.py \\
        --variants bilinear ifa ifa+integrated --seeds 1 2 3 --output output/alignments/camvid
    python projects/IFA/compare_alignments.py --config-file crackforest/ifa_lite0.py \\
        --variants probe ifa --seeds 1 2 3 --f1-class crack --output output/alignments/crackforest

Unfinished runs are trained in --jobs processes side by side; a stopped run is resumed.
Each run keeps the counts of every validation picture (counts/SCALE_STRIDE), from which
summarize_alignments.py makes tables and paired intervals.
"""

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parent))  # its neighbours, in any process

from alignment_counts import SETTINGS, count_pictures, counts_file, parse_setting
from alignment_variants import CHANGES, METHODS, apply_variant
from compared_runs import FINAL, check_settings
from train_together import train_together

from ifa_d2.engine import Trainer
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config


class _Trainer(Trainer):
    """Trainer without evaluation: more than its own metrics are counted afterwards."""

    @classmethod
    def test(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}


def build_config(
    config_file: str, variant: str, seed: int, output: Path, opts: Sequence[str]
) -> DictConfig:
    """Build the config of a run.

    Raises:
        ValueError: an unknown variant, or an override that does not fit.
    """
    cfg = load_config(config_file, opts)
    apply_variant(cfg, variant)
    cfg.train.update(seed=seed, output_dir=str(output), eval_period=0)
    return cfg


@dataclass(frozen=True)
class Job:
    """Runs of one seed; several are trained on the same batches.

    Attributes:
        config_file, opts: of the recipe.
        outputs: folder of each variant.
        seed: of all.
        settings, f1_class: see :func:`count_pictures`.
        seconds: see :func:`train_together`.
    """

    config_file: str
    opts: Sequence[str]
    outputs: Mapping[str, Path]
    seed: int
    settings: Sequence[str]
    f1_class: str
    seconds: float

    def config(self, variant: str) -> DictConfig:
        return build_config(self.config_file, variant, self.seed, self.outputs[variant], self.opts)

    def run(self) -> str:
        """Train unfinished runs, and count; returns the folders."""
        for name in ("detectron2", "fvcore"):
            logging.getLogger(name).setLevel(logging.ERROR)
        cfgs = {variant: self.config(variant) for variant in self.outputs}
        for variant, output in self.outputs.items():
            run = {"config_file": self.config_file, "variant": variant, "seed": self.seed}
            check_settings(output, {**run, "opts": list(self.opts)})
        missing = [v for v, output in self.outputs.items() if not (output / FINAL).is_file()]
        if len(self.outputs) > 1 or self.seconds:
            train_together([cfgs[variant] for variant in missing], seconds=self.seconds)
        elif missing:
            seed_all_rng(self.seed)
            trainer = _Trainer(cfgs[missing[0]])
            trainer.resume_or_load(resume=True)
            trainer.train()
        for variant, output in self.outputs.items():
            files = {setting: counts_file(output, setting) for setting in self.settings}
            missing = [setting for setting, file in files.items() if not file.is_file()]
            if missing:
                model = load_model(cfgs[variant], str(output / FINAL))
                options = {"settings": missing, "f1_class": self.f1_class}
                for setting, found in count_pictures(cfgs[variant], model, **options).items():
                    found.write(files[setting])
        return "\n".join(map(str, self.outputs.values()))


def plan(args: argparse.Namespace) -> list[Job]:
    """Plan the jobs, seed by seed.

    Raises:
        ValueError: an unknown variant or setting, or an override that does not fit: before anything
            starts.
    """
    for setting in args.settings:
        parse_setting(setting)
    folder, jobs = Path(args.output).resolve(), []
    for seed in args.seeds:
        for start in range(0, len(args.variants), args.together):
            outputs = {
                variant: folder / variant / f"seed{seed}"
                for variant in args.variants[start : start + args.together]
            }
            last = (args.settings, args.f1_class, args.seconds)
            jobs.append(Job(args.config_file, args.opts, outputs, seed, *last))
            for variant in outputs:
                jobs[-1].config(variant)
    return jobs


def _start(threads: int) -> None:
    torch.set_num_threads(threads)


def run(args: argparse.Namespace) -> None:
    """Train and count all runs."""
    jobs = plan(args)
    if args.jobs == 1:
        for job in jobs:
            print(job.run(), flush=True)
        return
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, context, initializer=_start, initargs=(threads,)) as pool:
        for done in as_completed([pool.submit(job.run) for job in jobs]):
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
    parser.add_argument(
        "--settings",
        nargs="+",
        default=list(SETTINGS),
        metavar="SCALE/STRIDE",
        help=f"sizes of the input and strides of decoding (default: {' '.join(SETTINGS)})",
    )
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="variants that one process trains on the same batches, not to be resumed (default: 1)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0,
        metavar="S",
        help="cut the iterations to what fits; trainings of one process alike",
    )
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
