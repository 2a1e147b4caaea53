"""IFA beside Detectron2's other segmentation models, from picture to full-size logits.

All are a ``SemanticSegmentor`` for 19 classes over a ResNet-50 with the deep stem of 128 channels,
its stride in the 3x3 convolutions, BN everywhere that a norm is (in Detectron2's recipes the heads
of the FPN models have GN; norms are not compared here), and nothing frozen:

- ``IFA``: the recipe configs/cityscapes/ifa_r50.py with BN. In training it includes its auxiliary
  head and the selection of hard pixels.
- ``SemSegFPNHead``: an FPN of 256 channels without norms over res2..res5, Detectron2's default; the
  head with its default 128 channels and stride 4.
- ``PointRendSemSegHead``: the same FPN and head as the coarse one, with the point head of
  PointRend's recipe for Cityscapes (on p2: 3 layers of 256 channels, 2048 points in training, two
  subdivisions of 8192 points).
- ``DeepLabV3PlusHead``: the recipe for Cityscapes at depth 50: output stride 16 with dilations 2
  times (1, 2, 4) in res5, ASPP of 256 channels with dilations 6, 12 and 18, 48 channels of res2,
  hard pixel mining.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, SemanticSegmentor, build_backbone, build_sem_seg_head
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.projects import deeplab, point_rend
from torch import nn

from ...config import get_config
from ...modeling import build_resnet
from .models import compare_models, inference, model_columns
from .tables import github_table, pixels

NUM_CLASSES = 19
_REFERENCE = "IFA"
_RECIPE = "cityscapes/ifa_r50.py"
_STAGES = ("res2", "res3", "res4", "res5")


def run_peers(
    *,
    cases: Sequence[tuple[tuple[int, int], str]],
    repeats: int,
    device: str,
    channels_last: bool = True,
) -> dict[str, Any]:
    """Measure time, peak memory and multiply-adds of whole models on one picture.

    Args:
        cases: (height, width) of the picture in pixels, and "forward" (inference, up to logits for
            every pixel) or "train" (forward, backward and a step of SGD).
        repeats: timed turns, all models in each.
        device: where to run.
        channels_last: the memory format of all models' weights.

    Returns:
        ``rows``: each ratio is the model's over IFA's.
        Memory is that of tensors beyond weights and the optimizer's state.
    """
    models = {name: build() for name, build in BUILDERS.items()}
    for model in models.values():
        model.to(device)
        if channels_last:
            model.to(memory_format=torch.channels_last)
    rows = []
    for size, name in cases:
        rows += _rows(models, size, name, repeats, device)
    return {"rows": rows, "memory_format": "channels_last" if channels_last else "contiguous"}


def build_ifa() -> nn.Module:
    """Build the recipe's model with BN."""
    config = get_config(_RECIPE).model
    config.backbone.norm = "BN"
    return instantiate(config)


def build_sem_seg_fpn() -> nn.Module:
    """Build Semantic FPN with Detectron2's default head, see this module's docstring."""
    return _segmentor(_head_config("SemSegFPNHead"), _fpn())


def build_point_rend() -> nn.Module:
    """Build PointRend's semantic head, see this module's docstring."""
    cfg = _head_config("PointRendSemSegHead")
    point_rend.add_pointrend_config(cfg)
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 2048
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = 8192
    return _segmentor(cfg, _fpn())


def build_deeplab_v3_plus() -> nn.Module:
    """Build DeepLabV3+ at output stride 16, see this module's docstring."""
    cfg = _head_config("DeepLabV3PlusHead")
    deeplab.add_deeplab_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 128
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res5"]
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res5"]
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 256
    return _segmentor(cfg, build_backbone(cfg, ShapeSpec(channels=3)))


BUILDERS: Mapping[str, Callable[[], nn.Module]] = {
    _REFERENCE: build_ifa,
    "SemSegFPNHead": build_sem_seg_fpn,
    "PointRendSemSegHead": build_point_rend,
    "DeepLabV3PlusHead": build_deeplab_v3_plus,
}


def _head_config(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEM_SEG_HEAD.NAME = name
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    return cfg


def _fpn() -> FPN:
    resnet = build_resnet(depth=50, norm="BN", stem_channels=128)
    return FPN(resnet, list(_STAGES), 256, top_block=LastLevelMaxPool())


def _segmentor(cfg: CfgNode, backbone: Backbone) -> SemanticSegmentor:
    config = get_config(_RECIPE).model
    return SemanticSegmentor(
        backbone=backbone,
        sem_seg_head=build_sem_seg_head(cfg, backbone.output_shape()),
        pixel_mean=list(config.pixel_mean),
        pixel_std=list(config.pixel_std),
    )


def _rows(
    models: Mapping[str, nn.Module], size: tuple[int, int], name: str, repeats: int, device: str
) -> list[dict[str, Any]]:
    """Measure all models in one case."""
    picture = {
        "image": torch.randint(256, (3, *size), dtype=torch.uint8, device=device),
        "height": size[0],
        "width": size[1],
    }
    make = inference
    if name == "train":
        make = _training_step
        picture["sem_seg"] = torch.randint(NUM_CLASSES, size, device=device)
    functions = {key: make(model, picture) for key, model in models.items()}
    compared = compare_models(
        functions, models, reference=_REFERENCE, repeats=repeats, device=device
    )
    return [{"input": list(size), "pass": name, **row} for row in compared]


def _training_step(model: nn.Module, picture: dict[str, Any]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def step() -> None:
        model.train()
        sum(model([picture]).values()).backward()
        optimizer.step()
        # Here and not before: gradients count as this step's memory.
        optimizer.zero_grad(set_to_none=True)

    return step


def peers_tables(result: Mapping[str, Any]) -> str:
    """Format the rows as a table."""
    return github_table(
        [
            {
                "model": row["model"],
                "input": pixels(row["input"]),
                "pass": row["pass"],
                **model_columns(row, seconds_digits=2, params_digits=1),
            }
            for row in result["rows"]
        ]
    )
