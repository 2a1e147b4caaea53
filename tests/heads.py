"""Heads from options, as ``MODEL.IFA`` has them."""

from typing import Any

from detectron2.config import instantiate
from torch import nn

from ifa_d2.modeling import IFASemSegHead
from ifa_d2.modeling.head_config import head_config


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
