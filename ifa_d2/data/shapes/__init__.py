"""Embedded data set: street scenes drawn by code, exactly labelled at any resolution."""

from .palette import CLASSES
from .prepare import SHAPES_COUNTS, SHAPES_SIZE, SHAPES_VERSION, prepare_shapes
from .scene import Scene
from .street import make_scene

__all__ = [
    "CLASSES",
    "SHAPES_COUNTS",
    "SHAPES_SIZE",
    "SHAPES_VERSION",
    "Scene",
    "make_scene",
    "prepare_shapes",
]
