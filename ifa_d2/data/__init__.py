"""Data sets and the mapper. Importing this package registers the built-in data sets."""

from .. import compat  # noqa: F401 (before Detectron2)
from . import builtin, panoptic_sets
from .augmentation import build_sem_seg_augmentations
from .bands import read_bands
from .coco import register_coco_sem_seg
from .labels import read_label, read_record_label
from .mapper import SemSegMapper
from .mixture import mixed_dataset_dicts
from .panoptic_mapper import PanopticInstanceMapper, PanopticMapper
from .pictures import picture_size, read_picture
from .points import PointSampler
from .registration import register_sem_seg_folder
from .sem_seg_folder import SemSegFolder, expand_path
from .shapes import Scene, make_scene, prepare_shapes

__all__ = [
    "PanopticInstanceMapper",
    "PanopticMapper",
    "PointSampler",
    "Scene",
    "SemSegFolder",
    "SemSegMapper",
    "build_sem_seg_augmentations",
    "builtin",
    "expand_path",
    "make_scene",
    "mixed_dataset_dicts",
    "panoptic_sets",
    "picture_size",
    "prepare_shapes",
    "read_bands",
    "read_label",
    "read_picture",
    "read_record_label",
    "register_coco_sem_seg",
    "register_sem_seg_folder",
]
