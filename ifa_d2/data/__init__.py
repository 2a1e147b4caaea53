"""Data sets and the mapper. Importing this package registers the built-in data sets."""

from . import builtin, panoptic_sets
from .augmentation import build_sem_seg_augmentations
from .labels import read_label
from .mapper import SemSegMapper
from .panoptic_mapper import PanopticInstanceMapper, PanopticMapper
from .pictures import picture_size, read_picture
from .points import PointSampler
from .registration import SemSegFolder, expand_path, register_sem_seg_folder
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
    "panoptic_sets",
    "picture_size",
    "prepare_shapes",
    "read_label",
    "read_picture",
    "register_sem_seg_folder",
]
