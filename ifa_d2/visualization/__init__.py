"""Drawings of segmentations: over the image, side by side, and as contact sheets."""

from .drawing import draw_labels, draw_panoptic, draw_points, draw_segmentation
from .sheets import (
    contact_sheet,
    enlargement,
    image_and_panels,
    sample_row,
    save_image,
    save_png,
    side_by_side,
)

__all__ = [
    "contact_sheet",
    "draw_labels",
    "draw_panoptic",
    "draw_points",
    "draw_segmentation",
    "enlargement",
    "image_and_panels",
    "sample_row",
    "save_image",
    "save_png",
    "side_by_side",
]
