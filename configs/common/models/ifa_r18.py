"""IFA on a ResNet-18 with a deep stem. Recipes set model.sem_seg_head.num_classes."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SemanticSegmentor

from ifa_d2.modeling import build_resnet

from .ifa_head import sem_seg_head

model = L(SemanticSegmentor)(
    backbone=L(build_resnet)(depth=18, norm="BN", stem_channels=64),
    sem_seg_head=sem_seg_head,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
)
model.sem_seg_head.aux_heads[0].channels = 64
