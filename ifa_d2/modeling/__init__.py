"""Models: backbones, segmentation heads and losses, fields, meta-architectures."""

from .backbone import build_ifa_resnet_backbone, build_resnet
from .detail_backbone import DetailBackbone
from .field import SegmentationField, compute_fields
from .field_segmentor import FieldSegmentor
from .ifa_head import IFASemSegHead
from .losses import OhemCrossEntropy
from .multi_view_segmentor import MultiViewSegmentor
from .panoptic_deeplab_head import IFAPanopticDeepLabHead
from .panoptic_field import Merging, PanopticField, compute_panoptic_fields
from .panoptic_fpn import FieldPanopticFPN
from .refinement import Refinement
from .timm_backbone import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std

__all__ = [
    "DetailBackbone",
    "FieldPanopticFPN",
    "FieldSegmentor",
    "IFAPanopticDeepLabHead",
    "IFASemSegHead",
    "Merging",
    "MultiViewSegmentor",
    "OhemCrossEntropy",
    "PanopticField",
    "Refinement",
    "SegmentationField",
    "TimmBackbone",
    "build_ifa_resnet_backbone",
    "build_resnet",
    "compute_fields",
    "compute_panoptic_fields",
    "pretrained_pixel_mean",
    "pretrained_pixel_std",
]
