"""IFA on an EfficientNet-Lite0 with ImageNet weights, 3.0 M parameters.

Recipes set model.sem_seg_head.num_classes. The weights come with requirements.txt, as
``timm-package://tf_efficientnet_lite0``.
"""

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
    # It has 16 channels at stride 2 too: out_features=("stem", "res2", ...) with five of them.
    backbone=L(TimmBackbone)(model_name="tf_efficientnet_lite0", norm="BN", pretrained=True),
    sem_seg_head=L(IFASemSegHead)(
        input_shape={
            "res2": L(ShapeSpec)(channels=24, stride=4),
            "res3": L(ShapeSpec)(channels=40, stride=8),
            "res4": L(ShapeSpec)(channels=112, stride=16),
            "res5": L(ShapeSpec)(channels=320, stride=32),
        },
        num_classes=MISSING,
        channels=128,
        hidden_dims=(256, 128),
        # Of what oscillates within a pixel, no pixel was ever a training sample.
        integrated_encoding=True,
        norm="${..backbone.norm}",
        aux_channels=64,
    ),
    pixel_mean=L(pretrained_pixel_mean)(model_name="${..backbone.model_name}"),
    pixel_std=L(pretrained_pixel_std)(model_name="${..backbone.model_name}"),
)
