"""The work of ``tools/train_net.py``."""

import argparse
import copy
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from ..commands import command_line, this_command_line
from ..engine import Trainer
from ..engine.build import (
    check_evaluation_files,
    check_evaluation_needs,
    test_dataset_names,
)
from ..engine.checkpoint import Checkpointer
from ..engine.inference import apply_inference_arguments
from ..engine.inputs import check_datasets
from ..engine.output_dir import check_no_run, new_evaluation_dir
from ..engine.predictor import find_weights, load_model
from ..engine.run import (
    check_batch,
    count_processes,
    launch_run,
    load_config,
    setup_run,
)
from ..engine.settings import TrainSettings
from ..evaluation import PredictionWriter
from ..evaluation.prediction_writer import check_unused

_logger = logging.getLogger("ifa_d2.train_net")
# Keys that a trained model does not need any more.
_OF_TRAINING = ("train.", "optimizer.", "lr_multiplier.", "dataloader.train.")
DEFAULT_FORMATS = ("ids",)
# What a run ends with: files, and the metrics that are logged.
FILES = (
    *("model_final.pth", "model_best.pth", "metrics.json", "sem_seg_evaluation.json"),
    *("confusion_matrix.png", "reliability.png", "log.txt"),
)
FIGURES = ("mIoU", "mACC", "pACC", "ECE", "PQ", "SQ", "RQ")


def read_config(args: argparse.Namespace) -> DictConfig:
    """Read the config of the arguments, and check both before a run starts."""
    if not args.eval_only and args.save_predictions is not None:
        raise ValueError("save_predictions needs --eval-only")
    if args.save_format and args.save_predictions is None:
        raise ValueError("save_format needs --save-predictions DIR")
    cfg = load_config(args.config_file, args.opts)
    for folder in prediction_folders(cfg, args):
        check_unused(folder, args.save_format or DEFAULT_FORMATS)
    if not args.eval_only and not args.resume:
        check_no_run(TrainSettings.from_config(cfg).output_dir)
    apply_inference_arguments(cfg, args)
    check_evaluation_needs(cfg)
    for is_train in (False,) if args.eval_only else (True, False):
        check_datasets(cfg, is_train=is_train)
    return cfg


def run(args: argparse.Namespace) -> None:
    """Train or evaluate in as many processes as the command line asks for."""
    with interrupts_explained(args):
        processes = count_processes(args)
        if processes > 1:  # an error of one of them would be a traceback
            cfg = read_config(args)
            if not args.eval_only:
                check_batch(cfg, processes)
        launch_run(main, args)


def main(args: argparse.Namespace) -> dict:
    """Train or evaluate in one process; returns the metrics, on the main one."""
    cfg = read_config(args)
    if args.eval_only:
        return evaluate(cfg, args)
    setup_run(cfg, verbose=args.verbose)
    trainer = Trainer(cfg, resume=args.resume)
    trainer.resume_or_load(resume=args.resume)
    results = trainer.train()
    best = os.path.join(trainer.settings.output_dir, "model_best.pth")
    say_end(args, trainer.cfg, results, best)
    return results


def evaluate(cfg: DictConfig, args: argparse.Namespace) -> dict:
    """Evaluate in one process, into a new folder; returns the metrics, on the main one."""
    settings = TrainSettings.from_config(cfg)
    # With --resume the last checkpoint, whatever else is named.
    weights = find_weights(settings, () if args.resume else args.opts)
    if not weights:
        raise ValueError(
            "nothing to evaluate: name the weights with train.init_checkpoint=FILE "
            f"(MODEL.WEIGHTS=FILE for .yaml), or train first: {settings.output_dir} has none"
        )
    model = load_model(cfg, weights)
    # All that is named after the output directory follows: metrics, and the log.
    made = new_evaluation_dir(settings.output_dir) if comm.is_main_process() else None
    cfg = copy.deepcopy(cfg)
    cfg.train.output_dir = str(comm.all_gather(made)[0])
    setup_run(cfg, eval_only=True, verbose=args.verbose)
    _logger.info(f"Evaluating {weights}; everything goes to {cfg.train.output_dir}")
    evaluators = build_evaluators(cfg, args)
    check_evaluation_files(evaluators, new=True)
    results = Trainer.test(cfg, model, evaluators, weights=weights)
    say_end(args, cfg, results, weights)
    return results


def say_end(args: argparse.Namespace, cfg: DictConfig, results: dict, weights: str) -> None:
    """Log the metrics of a run, where its files are, and a command that draws predictions.

    Args:
        args: the command line.
        cfg: the run's config.
        results: its last evaluation; nothing is logged without metrics, as on other processes.
        weights: the checkpoint to draw with.
    """
    figures = main_figures(results)
    if not figures:
        return  # not the main process, or an evaluator of the user's own
    folder = cfg.train.output_dir
    files = [name for name in FILES if os.path.isfile(os.path.join(folder, name))]
    demo = ["--config-file", args.config_file, "--weights", weights]
    demo += ["--dataset", test_dataset_names(cfg)[0], *(["--tta"] if args.tta else [])]
    for flag in ("sliding_window", "stride"):
        if getattr(args, flag):
            demo += [f"--{flag.replace('_', '-')}", *map(str, getattr(args, flag))]
    demo += ["--blend", args.blend] if args.blend else []
    changes = [key for key in args.opts if not key.startswith(_OF_TRAINING)]
    demo += ["--output", os.path.join(folder, "pictures"), *changes]
    said = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    _logger.info(
        f"Done: {said}. In {folder}: {', '.join(files)}. To see what the model does:\n"
        f"    {command_line('demo', *demo)}"
    )


def main_figures(results: dict, prefix: str = "") -> dict[str, float]:
    """The few metrics of an evaluation by which models are compared, with their tasks' names."""
    found = {}
    for name, value in results.items():
        if isinstance(value, dict):
            found |= main_figures(value, f"{prefix}{name}/")
        elif name in FIGURES:
            found[f"{prefix}{name}"] = float(value)
    return found


def build_evaluators(cfg: DictConfig, args: argparse.Namespace) -> list[DatasetEvaluator]:
    """Evaluators of each data set, with what writes the predictions if asked for."""
    names = test_dataset_names(cfg)
    evaluators = [Trainer.build_evaluator(cfg, name) for name in names]
    if args.save_predictions is None:
        return evaluators
    folders, formats = prediction_folders(cfg, args), args.save_format or DEFAULT_FORMATS
    return [
        DatasetEvaluators([evaluator, PredictionWriter(name, folder, formats)])
        for evaluator, name, folder in zip(evaluators, names, folders, strict=True)
    ]


def prediction_folders(cfg: DictConfig, args: argparse.Namespace) -> list[str]:
    """Where the predictions of each data set go; empty where none are asked for."""
    if args.save_predictions is None:
        return []
    names = test_dataset_names(cfg)
    if len(names) == 1:
        return [args.save_predictions]
    return [os.path.join(args.save_predictions, name) for name in names]


def say_resume(args: argparse.Namespace) -> str:
    """The sentence that ends an interrupted training: how to go on."""
    cfg = load_config(args.config_file, args.opts)
    folder = TrainSettings.from_config(cfg).output_dir
    last = Checkpointer(nn.Identity(), folder)
    if not last.has_checkpoint():
        return f"before the first checkpoint, nothing is saved in {folder}"
    flag = [] if args.resume else ["--resume"]
    command = this_command_line(*flag, *sys.argv[1:])
    return f"{last.get_checkpoint_file()} is saved, continue with: {command}"


@contextmanager
def interrupts_explained(args: argparse.Namespace) -> Iterator[None]:
    """Let an interrupted training end with how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        if args.eval_only:
            raise
        raise KeyboardInterrupt(say_resume(args)) from None
