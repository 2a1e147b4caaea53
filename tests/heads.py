"""Heads from options, as ``MODEL.IFA`` has them."""

from typing import Any

from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import nn

from ifa_d2.modeling import IFASemSegHead
from ifa_d2.modeling.head_config import head_config

# Of a network of make_stages after a stem of stride 4 and 4 channels.
SMALL_SHAPE = {
    "res2": ShapeSpec(channels=4, stride=4),
    "res3": ShapeSpec(channels=8, stride=8),
}


def make_stages() -> list[list[nn.Module]]:
    """Build two stages of a small ResNet, for ``SMALL_SHAPE``."""
    return [
        ResNet.make_stage(
            block_class=BasicBlock,
            num_blocks=1,
            in_channels=4,
            out_channels=channels,
            stride_per_block=[stride],
            norm="BN",
        )
        for channels, stride in ((4, 1), (8, 2))
    ]


def make_head(criterion: nn.Module | None = None, **options: Any) -> IFASemSegHead:
    """Build a head of ``input_shape``, ``num_classes`` and options of ``head_config``.

    It has an auxiliary head of res4, unless ``aux_feature`` says otherwise. Another criterion than
    that of the options may be given.
    """
    options = {"aux_feature": "res4", **options}
    if not options["aux_feature"]:
        options.pop("aux_channels", None)
    parts = head_config(options)
    parts = {name: instantiate(parts[name]) for name in parts}
    return IFASemSegHead(**parts | ({"criterion": criterion} if criterion else {}))
