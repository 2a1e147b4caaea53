"""Confusion matrices of a model's stages: of its auxiliary heads, and of its answer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.fields.query_checks import check_eval
from ifa_d2.modeling import AuxiliaryHead, IFASemSegHead
from ifa_d2.modeling.picture_fields import fields_of_features, padded_images
from ifa_d2.modeling.targets import interpolate

FINAL = "final"  # the last stage: the model's answer


def check_stages(model: nn.Module) -> None:
    """Check that a model has auxiliary heads that tell all classes apart, one a feature.

    Raises:
        ValueError: it has not.
    """
    head = getattr(model, "sem_seg_head", None)
    if not isinstance(head, IFASemSegHead):
        raise ValueError(f"model.sem_seg_head must be an IFASemSegHead, got {type(head).__name__}")
    if others := [aux for aux in head.aux_heads if not isinstance(aux, AuxiliaryHead)]:
        raise ValueError(
            "model.sem_seg_head.aux_heads must be AuxiliaryHeads, which tell classes apart, got a "
            f"{type(others[0]).__name__}"
        )
    features = [aux.feature for aux in head.aux_heads]
    if not features or len(set(features)) < len(features):
        raise ValueError(
            "model.sem_seg_head.aux_heads must be one or more, of different features, got "
            f"{features}: train a recipe with heads at the stages, such as "
            "projects/HS3/configs/camvid/deep_supervision_lite0.py"
        )
    if grouped := [aux.feature for aux in head.aux_heads if aux.class_groups is not None]:
        raise ValueError(
            f"model.sem_seg_head.aux_heads of {grouped} have class_groups already: clusters are "
            "found from heads of all classes, class_groups=None"
        )


@torch.no_grad()
def count_stages(
    model: nn.Module, loader: Iterable[Sequence[Mapping[str, Any]]], dataset_name: str
) -> dict[str, np.ndarray]:
    """Count the confusion matrix of each stage over a data set.

    An auxiliary head's logits are interpolated bilinearly at the pixels of the picture; the model's
    answer is decoded at them.

    Args:
        model: of :func:`check_stages`, in eval mode.
        loader: of the data set's pictures, as the config tests on them.
        dataset_name: whose labels are read.

    Returns:
        By the auxiliary heads' features in their order, and then "final": (K + 1, K + 1).

    Raises:
        ValueError: as :func:`check_stages` and ``SemSegEvaluator``; a model in training mode; or
            pictures without labels.
    """
    check_stages(model)
    check_eval(model)
    head = model.sem_seg_head
    names = [*(aux.feature for aux in head.aux_heads), FINAL]
    counters = {
        name: SemSegEvaluator(dataset_name, boundary_widths=(), trimap_widths=()) for name in names
    }
    for batch in loader:
        images = padded_images(model, batch)
        features = model.backbone(images.tensor)
        stages = head.auxiliary_logits(features)
        fields = fields_of_features(head, features, images, batch)
        for i, (one, field) in enumerate(zip(batch, fields, strict=True)):
            query = field.query()
            answers = [interpolate(logits[i : i + 1], query)[0] for logits in stages]
            for name, answer in zip(names, [*answers, field.labels()], strict=True):
                counters[name].process([one], [{"sem_seg": answer}])
    counts = {name: counter.metrics.confusion for name, counter in counters.items()}
    if not counts[FINAL][:-1].any():
        raise ValueError(f"{dataset_name} must have labels to find clusters by, and has none")
    return counts
