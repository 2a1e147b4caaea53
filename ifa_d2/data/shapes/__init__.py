"""Embedded data set: street scenes drawn by code, exactly labelled at any resolution."""

from .palette import CLASSES, THINGS
from .prepare import (
    SHAPES_COUNTS,
    SHAPES_SEED,
    SHAPES_SIZE,
    SHAPES_VERSION,
    draw_once,
    prepare_shapes,
)
from .scene import Scene
from .street import make_scene

__all__ = [
    "CLASSES",
    "SHAPES_COUNTS",
    "SHAPES_SEED",
    "SHAPES_SIZE",
    "SHAPES_VERSION",
    "THINGS",
    "Scene",
    "draw_once",
    "make_scene",
    "prepare_shapes",
]
