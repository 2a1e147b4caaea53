"""Models: backbones from Detectron2's parts, the segmentation head, its losses."""

from .backbone import build_ifa_resnet_backbone, build_resnet
from .field import SegmentationField, compute_fields
from .field_segmentor import FieldSegmentor
from .ifa_head import IFASemSegHead
from .losses import OhemCrossEntropy
from .refinement import Refinement

__all__ = [
    "FieldSegmentor",
    "IFASemSegHead",
    "OhemCrossEntropy",
    "Refinement",
    "SegmentationField",
    "build_ifa_resnet_backbone",
    "build_resnet",
    "compute_fields",
]
