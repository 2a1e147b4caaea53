"""IFA on a ResNet-18 with a deep stem. Recipes set model.sem_seg_head.num_classes."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from omegaconf import MISSING

from ifa_d2.modeling import IFASemSegHead, build_resnet

model = L(SemanticSegmentor)(
    backbone=L(build_resnet)(depth=18, norm="BN", stem_channels=64),
    sem_seg_head=L(IFASemSegHead)(
        input_shape={
            "res2": L(ShapeSpec)(channels=64, stride=4),
            "res3": L(ShapeSpec)(channels=128, stride=8),
            "res4": L(ShapeSpec)(channels=256, stride=16),
            "res5": L(ShapeSpec)(channels=512, stride=32),
        },
        num_classes=MISSING,
        norm="${..backbone.norm}",
        aux_channels=64,
    ),
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
)
