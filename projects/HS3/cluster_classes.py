#!/usr/bin/env python3
"""Clusters of classes for the auxiliary heads of a trained model, as lines of a recipe.

    python projects/HS3/cluster_classes.py \\
        --config-file projects/HS3/configs/camvid/deep_supervision_lite0.py \\
        --weights output/deep_supervision/model_final.pth --json output/clusters.json

The model has heads of all classes. On the config's test data, each head's confusion matrix says
which classes are merged first, and mean IoU at each number of clusters, which number puts the head
where the model's answer is with all classes. The lines go into a recipe with the same heads, behind
what defines them; as overrides of a command line, aux_heads.0 stands for aux_heads[0].
"""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from class_clusters import (
    choose_num_clusters,
    cluster_scores,
    mean_iou,
    nested_clusters,
)
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from stage_statistics import FINAL, check_stages, count_stages
from tqdm import tqdm

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
from ifa_d2.evaluation.report import write_json

_WIDTH = 100  # of a line


@dataclass(frozen=True)
class StageClusters:
    """Clusters of a stage.

    Attributes:
        feature: of its head.
        counts: its confusion matrix.
        clusters: by number of clusters, see :func:`class_clusters.nested_clusters`.
        scores: mean IoU, from 0 to 1, by number of clusters.
        chosen: the number of clusters.
    """

    feature: str
    counts: np.ndarray
    clusters: dict[int, tuple[int, ...]]
    scores: dict[int, float]
    chosen: int

    @classmethod
    def choose(cls, feature: str, counts: np.ndarray, final_score: float) -> "StageClusters":
        """Choose a stage's clusters, given the mean IoU of the last one."""
        clusters = nested_clusters(counts)
        scores = cluster_scores(counts, clusters)
        return cls(feature, counts, clusters, scores, choose_num_clusters(scores, final_score))

    @property
    def groups(self) -> tuple[int, ...] | None:
        """The cluster of each class; None where each class is one."""
        return self.clusters[self.chosen] if self.chosen < max(self.clusters) else None


def choose_clusters(counts: Mapping[str, np.ndarray]) -> list[StageClusters]:
    """Choose the clusters of all stages.

    Args:
        counts: see :func:`stage_statistics.count_stages`.
    """
    final = mean_iou(counts[FINAL])
    return [
        StageClusters.choose(name, each, final) for name, each in counts.items() if name != FINAL
    ]


def recipe_lines(stages: Sequence[StageClusters], class_names: Sequence[str]) -> list[str]:
    """Lines that give the auxiliary heads of a recipe their clusters.

    Args:
        stages: in the order of the recipe's auxiliary heads.
        class_names: K.
    """
    lines = []
    for index, stage in enumerate(stages):
        groups = stage.groups
        score, whole = (100 * stage.scores[n] for n in (stage.chosen, len(class_names)))
        said = f"{stage.feature}: mIoU {whole:.1f} of {len(class_names)} classes"
        if groups is not None:
            members = (
                ", ".join(
                    name for name, group in zip(class_names, groups, strict=True) if group == n
                )
                for n in range(stage.chosen)
            )
            said += f", {score:.1f} of {stage.chosen} clusters: {'; '.join(members)}"
        lines += textwrap.wrap(said, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
        value = None if groups is None else list(groups)
        lines += _assignment(f"model.sem_seg_head.aux_heads[{index}].class_groups", value)
    return lines


def _assignment(target: str, value: list[int] | None) -> list[str]:
    line = f"{target} = {value}"
    if len(line) <= _WIDTH:
        return [line]
    numbers = textwrap.wrap(str(value)[1:-1], _WIDTH - 4)
    return [f"{target} = [", *(f"    {row}" for row in numbers), "]"]


def report(
    stages: Sequence[StageClusters], counts: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> dict[str, Any]:
    """All that was found, in plain types for a JSON file."""
    return {
        "classes": list(class_names),
        "final": {"mIoU": 100 * mean_iou(counts[FINAL]), "pixels": counts[FINAL].tolist()},
        "stages": [
            {
                "feature": stage.feature,
                "num_clusters": stage.chosen,
                "class_groups": stage.groups,
                "mIoU": {str(number): 100 * score for number, score in stage.scores.items()},
                "clusters": {str(number): one for number, one in stage.clusters.items()},
                "pixels": stage.counts.tolist(),
            }
            for stage in stages
        ],
    }


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_parser(__doc__)
    add_config_argument(parser)
    add_weights_argument(parser)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write there the clusters and mean IoU at each number, and the confusion "
        "matrices, whose last row and column are pixels without a class",
    )
    add_overrides_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Find the clusters, and print the lines."""
    args = parse_args()
    cfg = load_config(args.config_file, args.opts)
    check_datasets(cfg, is_train=False)
    names = test_dataset_names(cfg)
    if len(names) != 1:
        raise ValueError(f"the config must test on one data set, got {names}")
    check_command_outputs(
        [args.json],
        config_file=args.config_file,
        model=(cfg, args.weights, args.opts),
        datasets=names,
    )
    model = load_model(cfg, args.weights, args.opts, auxiliary=True)
    check_stages(model)
    if build_inference_model(cfg, model) is not model:
        raise ValueError(
            "inference must leave pictures whole and as they are, as auxiliary heads see no others"
        )
    loader = tqdm(instantiate(cfg.dataloader.test), desc="counting", unit="picture")
    counts = count_stages(model, loader, names[0])
    stages = choose_clusters(counts)
    classes = MetadataCatalog.get(names[0]).stuff_classes
    if args.json:
        write_json(args.json, {"dataset": names[0], **report(stages, counts, classes)})
    print(f"# By the confusion of each stage on {names[0]}; the model's mIoU is", end=" ")
    print(f"{100 * mean_iou(counts[FINAL]):.1f}.")
    print(*recipe_lines(stages, classes), sep="\n")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
