"""Panoptic FPN with IFA and with its own semantic head, whole and branch by branch.

The models are those of the recipes configs/panoptic/coco, on a ResNet-50, with random weights that
are equal in all but the branch:

- ``IFA``: ``IFASemSegHead`` in Detectron2's ``PanopticFPN``.
- ``IFA, labels``: the same in ``FieldPanopticFPN``, which decodes labels at the picture's pixels.
- ``SemSegFPNHead``: Detectron2's unchanged ``PanopticFPN``.

At inference 100 instances are detected, whatever their score; in training the picture shows 20. The
branch alone is taken from the pyramid's features to logits at stride 4 (``forward``), or to the
gradients of its parameters and features (``train``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...config import get_config
from ...modeling import FieldPanopticFPN
from .models import compare_models, inference, model_columns
from .tables import github_table, pixels

_REFERENCE = "IFA"
_LABELS = "IFA, labels"
_NUM_INSTANCES = 20
CASES = (("model", "forward"), ("model", "train"), ("branch", "forward"), ("branch", "train"))
_RECIPES = {
    _REFERENCE: "panoptic/coco/panoptic_ifa_r50.py",
    _LABELS: "panoptic/coco/panoptic_ifa_r50.py",
    "SemSegFPNHead": "panoptic/coco/panoptic_fpn_r50.py",
}


def run_panoptic(
    *,
    input_size: tuple[int, int],
    repeats: int,
    device: str,
    cases: Sequence[tuple[str, str]] = CASES,
) -> dict[str, Any]:
    """Measure time, peak memory, multiply-adds and parameters of all models in turn.

    Args:
        input_size: (height, width) of the picture in pixels.
        repeats: timed turns.
        device: where to run.
        cases: of ``CASES``: "model" or "branch", and "forward" or "train".

    Returns:
        ``rows``: each ratio is the model's over IFA's. Memory is of tensors, beyond the weights and
        other tensors held before.
    """
    models = _build_models(device)
    picture = _picture(input_size, device)
    features = _features(models[_REFERENCE], picture)
    trained = {name: model for name, model in models.items() if name != _LABELS}
    heads = {name: model.sem_seg_head for name, model in trained.items()}
    rows = []
    for part, name, functions, modules in (
        ("model", "forward", {k: inference(m, picture) for k, m in models.items()}, models),
        ("model", "train", {k: _training(m, picture) for k, m in trained.items()}, trained),
        ("branch", "forward", {k: _layers(h, features) for k, h in heads.items()}, heads),
        ("branch", "train", {k: _losses(h, features, picture) for k, h in heads.items()}, heads),
    ):
        if (part, name) in cases:
            compared = compare_models(
                functions, modules, reference=_REFERENCE, repeats=repeats, device=device
            )
            rows += [{"part": part, "pass": name, **row} for row in compared]
    return {"input": list(input_size), "rows": rows}


def _build_models(device: str) -> dict[str, nn.Module]:
    models: dict[str, nn.Module] = {}
    for name, recipe in _RECIPES.items():
        config = get_config(recipe).model
        if name == _LABELS:
            config._target_ = FieldPanopticFPN
        config.roi_heads.box_predictor.test_score_thresh = 0.0
        model = instantiate(config).to(device).to(memory_format=torch.channels_last)
        if models:
            own = model.state_dict()
            common = {
                key: value
                for key, value in models[_REFERENCE].state_dict().items()
                if name == _LABELS or not key.startswith("sem_seg_head.")
            }
            model.load_state_dict({**own, **common})
        else:
            _tame(model.backbone.bottom_up)
        models[name] = model
    return models


def _tame(resnet: nn.Module) -> None:
    """Start residual blocks as the identity: random weights would blow up activations."""
    for name, module in resnet.named_modules():
        if name.endswith(".conv3"):
            module.norm.weight.zero_()


def _picture(size: tuple[int, int], device: str) -> dict[str, Any]:
    """Make a picture of noise with rectangles as instances."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (size[0] // 2, size[1] // 2), (_NUM_INSTANCES, 2))
    sides = rng.integers(4, (size[0] // 2, size[1] // 2), (_NUM_INSTANCES, 2))
    boxes = np.concatenate([corners[:, ::-1], (corners + sides)[:, ::-1]], axis=1)
    masks = np.zeros((_NUM_INSTANCES, *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.from_numpy(boxes.astype(np.float32)))
    instances.gt_classes = torch.from_numpy(rng.integers(0, 80, _NUM_INSTANCES))
    instances.gt_masks = BitMasks(masks)
    return {
        "image": torch.randint(256, (3, *size), dtype=torch.uint8, device=device),
        "height": size[0],
        "width": size[1],
        "sem_seg": torch.randint(54, size, device=device),
        "instances": instances.to(device),
    }


@torch.no_grad()
def _features(model: nn.Module, picture: dict[str, Any]) -> dict[str, Tensor]:
    images = model.eval().preprocess_image([picture])
    return {name: value.detach() for name, value in model.backbone(images.tensor).items()}


def _training(model: nn.Module, picture: dict[str, Any]) -> Callable[[], None]:
    def step() -> None:
        model.train()
        torch.manual_seed(0)  # of which proposals are sampled
        with EventStorage():  # Detectron2's parts write figures to it
            losses = model([picture])
        sum(losses.values()).backward()
        model.zero_grad(set_to_none=True)

    return step


def _layers(head: nn.Module, features: Mapping[str, Tensor]) -> Callable[[], None]:
    def forward() -> None:
        head.eval()
        with torch.no_grad():
            head.layers(features)

    return forward


def _losses(
    head: nn.Module, features: Mapping[str, Tensor], picture: dict[str, Any]
) -> Callable[[], None]:
    stride = 4
    size = [side * stride for side in features["p2"].shape[-2:]]
    targets = torch.full((1, *size), head.ignore_value, device=picture["sem_seg"].device)
    targets[0, : picture["height"], : picture["width"]] = picture["sem_seg"]

    def step() -> None:
        head.train()
        leaves = {name: value.clone().requires_grad_() for name, value in features.items()}
        _, losses = head(leaves, targets)
        sum(losses.values()).backward()
        head.zero_grad(set_to_none=True)

    return step


def panoptic_tables(result: Mapping[str, Any]) -> str:
    """Format the rows as tables."""
    return github_table(
        [
            {
                "part": "semantic branch" if row["part"] == "branch" else "whole model",
                "semantic head": row["model"],
                "input": pixels(result["input"]),
                "pass": row["pass"],
                **model_columns(row, seconds_digits=3, params_digits=2),
            }
            for row in result["rows"]
        ]
    )
