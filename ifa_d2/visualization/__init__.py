"""Drawings of fields and labels: over the image, side by side, and as contact sheets."""

from .. import compat  # noqa: F401 (before Detectron2)
from .captions import add_color_bar, add_legend, caption, letter_size
from .composite import to_rgb
from .drawing import (
    draw_entropy,
    draw_panoptic,
    draw_points,
    draw_segmentation,
    entropy_colors,
)
from .fields import MAX_SAMPLES, MAX_SIDE, draw_field, is_drawable, resize_window
from .plots import check_plot_path, line_styles, save_plot
from .sheets import (
    check_image_path,
    contact_sheet,
    enlargement,
    image_and_panels,
    sample_row,
    save_image,
    save_png,
    side_by_side,
)

__all__ = [
    "MAX_SAMPLES",
    "MAX_SIDE",
    "add_color_bar",
    "add_legend",
    "caption",
    "check_image_path",
    "check_plot_path",
    "contact_sheet",
    "draw_entropy",
    "draw_field",
    "draw_panoptic",
    "draw_points",
    "draw_segmentation",
    "enlargement",
    "entropy_colors",
    "image_and_panels",
    "is_drawable",
    "letter_size",
    "line_styles",
    "resize_window",
    "sample_row",
    "save_image",
    "save_plot",
    "save_png",
    "side_by_side",
    "to_rgb",
]
