"""HS3-Fuse on CamVid: hs3_lite0.py, whose field also has the hidden layers of the heads."""

import sys
from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .hs3_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from fuse_backbone import SUFFIX as _suffix  # noqa: E402
from fuse_backbone import HS3FuseBackbone  # noqa: E402

_head = model.sem_seg_head
_stages = [aux.feature for aux in _head.aux_heads]
model.backbone.norm = "${..norm}"
model.backbone = L(HS3FuseBackbone)(
    bottom_up=model.backbone, stages=_stages, channels=64, norm="BN"
)
for _pixel in (model.pixel_mean, model.pixel_std):
    _pixel.model_name = "${..backbone.bottom_up.model_name}"
# A level more for each head's hidden layer, which the head now classifies as it is.
for _stage, _aux in zip(_stages, _head.aux_heads, strict=True):
    _shapes, _name = _head.levels.input_shape, f"{_stage}{_suffix}"
    _shapes[_name] = L(ShapeSpec)(
        channels="${.....backbone.channels}", stride=_shapes[_stage].stride
    )
    _aux.update(
        feature=_name,
        in_channels="${...levels.input_shape." + _name + ".channels}",
        channels=None,
    )
    _aux.pop("norm")  # the backbone has it
_head.levels.channels = [128, 64, 128, 64, 128, 64, 128]  # finest first, heads' behind backbone's
# Of these the heads' rate, as of what is in the heads otherwise.
optimizer.params.backbone_prefix = "backbone.bottom_up."
