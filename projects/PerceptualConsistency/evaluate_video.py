#!/usr/bin/env python3
"""Accuracy and consistency of a model on a clip, and its time a frame.

    python projects/PerceptualConsistency/evaluate_video.py \\
        --config-file camvid/ifa_lite0_frozen.py --weights ifa_d2://camvid/ifa_lite0_frozen \\
        model.return_logits=True

The frames are those of the config's test data, ordered by the last number in their names; gaps are
an error. Figures but the time are in percent, see VideoConsistencyEvaluator; those of
confidence need a model that answers with logits.
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from clips import register_clip
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluators
from frame_features import FrameFeatures
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm
from video_evaluator import VideoConsistencyEvaluator

from ifa_d2.analysis.benchmarks.tables import github_table, number
from ifa_d2.analysis.measure import device_name
from ifa_d2.arguments import (
    add_config_argument,
    add_overrides_argument,
    add_weights_argument,
    command_parser,
)
from ifa_d2.engine.build import test_dataset_names
from ifa_d2.engine.inference import build_inference_model
from ifa_d2.engine.inputs import check_datasets
from ifa_d2.engine.outputs import check_command_outputs
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.errors import errors_in_one_line
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.evaluation.report import write_json


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--prefix",
        default="",
        metavar="TEXT",
        help="take the frames alone whose names below the folder of images begin so, where "
        "the data are of several clips",
    )
    parser.add_argument(
        "--features",
        default="tf_efficientnet_lite0",
        metavar="NAME",
        help="network of timm that frames are compared by (default: tf_efficientnet_lite0)",
    )
    parser.add_argument(
        "--features-weights",
        default="",
        metavar="FILE",
        help="its weights (default: those of an installed package, or those that timm downloads)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    add_overrides_argument(parser)
    return parser.parse_args()


def name_clip(cfg: DictConfig, prefix: str) -> str:
    """Register the config's test data as a clip, and let the config test on it; gives its name.

    Raises:
        ValueError: the config tests on no data set or on several, or on one that is no clip.
    """
    names = test_dataset_names(cfg)
    if len(names) != 1:
        raise ValueError(f"the config must test on one data set, got {names}")
    clip = register_clip(names[0], prefix)
    cfg.dataloader.test.dataset.names = clip
    return clip


def evaluate(
    cfg: DictConfig, model: nn.Module, clip: str, features: FrameFeatures
) -> dict[str, Any]:
    """Evaluate a model on a clip.

    Returns:
        ``frames``; mIoU and consistency in percent; and medians of a frame in milliseconds, ``ms``
        by the clock and ``cpu_ms`` of this process's processors, which is the one that repeats
        where others use the machine.
    """
    accuracy = SemSegEvaluator(clip, boundary_widths=(), trimap_widths=())
    evaluator = DatasetEvaluators([accuracy, VideoConsistencyEvaluator(clip, features)])
    evaluator.reset()
    times: list[tuple[float, float]] = []  # by the clock, of processors
    with torch.no_grad():
        for inputs in tqdm(instantiate(cfg.dataloader.test), desc="evaluating", unit="frame"):
            start = time.perf_counter(), time.process_time()
            outputs = model(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            evaluator.process(inputs, outputs)
    results = evaluator.evaluate()
    miou = results.get("sem_seg", {}).get("mIoU", float("nan"))
    return {
        "frames": len(times),
        "mIoU": miou,
        **results["video"],
        "ms": 1000 * statistics.median(clock for clock, _ in times),
        "cpu_ms": 1000 * statistics.median(processors for _, processors in times),
    }


def main() -> None:
    """Evaluate, and print the figures."""
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    check_datasets(cfg, is_train=False)
    clip = name_clip(cfg, args.prefix)
    check_command_outputs(
        [args.json],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        datasets=[clip],
    )
    features = FrameFeatures(args.features, weights_file=args.features_weights)
    model = build_inference_model(cfg, load_model(cfg, args.weights, args.opts))
    device = next(model.parameters()).device
    figures = evaluate(cfg, model, clip, features.to(device))
    rows = [
        {
            "figure": name,
            "value": number(None if math.isnan(value) else value, 0 if name == "frames" else 2),
        }
        for name, value in figures.items()
    ]
    print(f"{clip} on {device_name(device)}\n\n{github_table(rows)}")
    if args.json:
        write_json(args.json, {"clip": clip, "features": args.features, "figures": figures})


if __name__ == "__main__":
    with errors_in_one_line():
        main()
