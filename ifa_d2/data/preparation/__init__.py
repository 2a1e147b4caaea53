"""Conversion of published data sets to the label files that the mapper reads."""

from .ade20k import ADE20K
from .base import Job, Preparation, Source
from .camvid import CAMVID
from .cityscapes import CITYSCAPES
from .conversion import prepare
from .crackforest import CRACKFOREST
from .panoptic_pictures import CITYSCAPES_PANOPTIC, COCO_PANOPTIC
from .pascal_context import PASCAL_CONTEXT_59, PASCAL_CONTEXT_60

PREPARATIONS: dict[str, tuple[Preparation, ...]] = {
    "cityscapes": (CITYSCAPES,),
    "ade20k": (ADE20K,),
    "pascal_context": (PASCAL_CONTEXT_60, PASCAL_CONTEXT_59),
    "camvid": (CAMVID,),
    "crackforest": (CRACKFOREST,),
    "cityscapes_panoptic": (CITYSCAPES, CITYSCAPES_PANOPTIC),
    "coco_panoptic": (COCO_PANOPTIC,),
}

__all__ = ["PREPARATIONS", "Job", "Preparation", "Source", "prepare"]
