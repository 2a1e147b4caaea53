"""Models: backbones, segmentation heads and losses, fields, meta-architectures."""

from .. import compat  # noqa: F401 (before Detectron2)
from ..fields import Refinement, SegmentationField
from .auxiliary import AuxiliaryHead, AuxiliaryTask, TrainingStep
from .backbone import build_ifa_resnet_backbone, build_resnet
from .criterion import LabelledPixels, WeightedSum
from .detail_backbone import DetailBackbone
from .feature_levels import FeatureLevels
from .field_segmentor import FieldSegmentor
from .grid_decoder import AlignedLevels, ConvDecoder, ObjectContextDecoder
from .head_recipe import fit_channels, level_features, use_alignment
from .ifa_head import IFASemSegHead
from .losses import DiceLoss, FocalLoss, LovaszSoftmaxLoss, OhemCrossEntropy
from .multi_view_segmentor import MultiViewSegmentor
from .panoptic_deeplab_head import IFAPanopticDeepLabHead
from .panoptic_field import Merging, PanopticField, compute_panoptic_fields
from .panoptic_fpn import FieldPanopticFPN
from .picture_fields import compute_fields
from .projection import (
    ASPPProjection,
    DeepLabASPP,
    IdentityProjection,
    PointwiseProjection,
    PyramidPooling,
)
from .targets import (
    GridTargets,
    JitteredGridTargets,
    LabelledPoints,
    PointTargets,
    UncertainPointTargets,
)
from .timm_backbone import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std
from .unit import norm_factory

__all__ = [
    "ASPPProjection",
    "AlignedLevels",
    "AuxiliaryHead",
    "AuxiliaryTask",
    "ConvDecoder",
    "DeepLabASPP",
    "DetailBackbone",
    "DiceLoss",
    "FeatureLevels",
    "FieldPanopticFPN",
    "FieldSegmentor",
    "FocalLoss",
    "GridTargets",
    "IFAPanopticDeepLabHead",
    "IFASemSegHead",
    "IdentityProjection",
    "JitteredGridTargets",
    "LabelledPixels",
    "LabelledPoints",
    "LovaszSoftmaxLoss",
    "Merging",
    "MultiViewSegmentor",
    "ObjectContextDecoder",
    "OhemCrossEntropy",
    "PanopticField",
    "PointTargets",
    "PointwiseProjection",
    "PyramidPooling",
    "Refinement",
    "SegmentationField",
    "TimmBackbone",
    "TrainingStep",
    "UncertainPointTargets",
    "WeightedSum",
    "build_ifa_resnet_backbone",
    "build_resnet",
    "compute_fields",
    "compute_panoptic_fields",
    "fit_channels",
    "level_features",
    "norm_factory",
    "pretrained_pixel_mean",
    "pretrained_pixel_std",
    "use_alignment",
]
