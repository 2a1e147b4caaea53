"""Inspection of a folder of someone's own: its pairs, labels and classes, and a recipe for it."""

from .label_forms import Labels, find_labels
from .layout import Layout, Pair, find_layout
from .recipe import SPLITS, Recipe, plan_recipe

__all__ = [
    "SPLITS",
    "Labels",
    "Layout",
    "Pair",
    "Recipe",
    "find_labels",
    "find_layout",
    "plan_recipe",
]
