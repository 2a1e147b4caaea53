"""Models: backbones from Detectron2's parts, the segmentation head, its losses."""

from .backbone import build_ifa_resnet_backbone, build_resnet
from .field import SegmentationField
from .ifa_head import IFASemSegHead
from .losses import OhemCrossEntropy

__all__ = [
    "IFASemSegHead",
    "OhemCrossEntropy",
    "SegmentationField",
    "build_ifa_resnet_backbone",
    "build_resnet",
]
