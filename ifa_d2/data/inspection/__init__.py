"""Inspection of a folder of one's own: pairs, labels, classes, and a recipe."""

from .json_files import Pair
from .label_forms import Labels, find_labels
from .layout import SPLITS, Layout, find_layout
from .recipe import MAX_ITER, Recipe, plan_recipe

__all__ = [
    "MAX_ITER",
    "SPLITS",
    "Labels",
    "Layout",
    "Pair",
    "Recipe",
    "find_labels",
    "find_layout",
    "plan_recipe",
]
