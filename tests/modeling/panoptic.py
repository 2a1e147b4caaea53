"""A small Panoptic FPN with IFA, and detections made by hand."""

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from torch import nn

from ifa_d2 import get_config

RECIPE = "panoptic/cityscapes/panoptic_ifa_r50.py"


def small_model(**changes: object) -> nn.Module:
    """The recipe's model with a narrow head, which detects many things, of random weights.

    Args:
        changes: keys of the model to set.
    """
    config = get_config(RECIPE).model
    config.update(changes)
    config.sem_seg_head.levels.channels = [16] * 4
    config.sem_seg_head.alignment.hidden_dims = [16]
    heads = config.roi_heads
    heads.box_head.fc_dims = [32]
    heads.box_predictor.update(input_shape=L(ShapeSpec)(channels=32), test_score_thresh=0.0)
    heads.mask_head.conv_dims = [16, 16]
    config.combine_instances_score_thresh = 0.15
    config.combine_stuff_area_thresh = 40
    torch.manual_seed(0)
    model = instantiate(config)
    for name, module in model.backbone.bottom_up.named_modules():
        if name.endswith(".conv3"):
            module.norm.weight.zero_()  # what blocks of random weights give grows to no end
    return model.eval()


def detections(size: tuple[int, int], *boxes: tuple[float, ...], mask: int = 28) -> Instances:
    """Full masks in boxes (x0, y0, x1, y1, score, class) of a picture of ``size``."""
    found = Instances(size)
    values = torch.tensor(boxes).reshape(-1, 6)
    found.pred_boxes = Boxes(values[:, :4])
    found.scores = values[:, 4]
    found.pred_classes = values[:, 5].long()
    found.pred_masks = torch.ones(len(boxes), 1, mask, mask)
    return found
