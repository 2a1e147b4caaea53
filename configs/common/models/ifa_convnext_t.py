"""IFA on a ConvNeXt-T of timm. Recipes set model.sem_seg_head.num_classes."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from omegaconf import MISSING

from ifa_d2.modeling import (
    IFASemSegHead,
    TimmBackbone,
    pretrained_pixel_mean,
    pretrained_pixel_std,
)

model = L(SemanticSegmentor)(
    backbone=L(TimmBackbone)(model_name="convnext_tiny", norm="BN", pretrained=True),
    sem_seg_head=L(IFASemSegHead)(
        input_shape={
            "res2": L(ShapeSpec)(channels=96, stride=4),
            "res3": L(ShapeSpec)(channels=192, stride=8),
            "res4": L(ShapeSpec)(channels=384, stride=16),
            "res5": L(ShapeSpec)(channels=768, stride=32),
        },
        num_classes=MISSING,
        norm="${..backbone.norm}",
    ),
    pixel_mean=L(pretrained_pixel_mean)(model_name="${..backbone.model_name}"),
    pixel_std=L(pretrained_pixel_std)(model_name="${..backbone.model_name}"),
)
