"""Drawings of fields, of any window at any size.

Shape legend: H x W pixels of the picture, h x w samples of the drawing. Images are RGB.
"""

from collections.abc import Sequence

import numpy as np
from detectron2.data import Metadata
from PIL import Image

from ..modeling import PanopticField, SegmentationField
from .captions import add_legend
from .drawing import draw_panoptic, draw_segmentation

# What a drawing takes some ten seconds and a few GiB for; Matplotlib draws no longer side.
MAX_SAMPLES = 2**26
MAX_SIDE = 2**16 - 1


def draw_field(
    field: SegmentationField,
    image: np.ndarray,
    metadata: Metadata,
    *,
    size: Sequence[int] | None = None,
    window: Sequence[float] | None = None,
    alpha: float = 0.6,
    names: bool = True,
    outlines: bool = False,
    legend: bool = False,
) -> np.ndarray:
    """Draw a field's labels over its picture in the data set's colours.

    A :class:`ifa_d2.modeling.PanopticField` is drawn by its segments, which always have names and
    outlines.

    Args:
        field: of the picture.
        image: the picture, (H, W, 3) uint8 RGB.
        metadata: with ``stuff_classes`` and ``stuff_colors``; for a panoptic field also with
            ``thing_classes``.
        size, window: as of :meth:`ifa_d2.modeling.SegmentationField.query`.
        alpha: opacity of the colours, 0 to 1.
        names: write the class names on the larger regions.
        outlines: draw lines between regions.
        legend: put colours and names of the classes that are drawn underneath.

    Returns:
        (h, w, 3) uint8 RGB; with a legend it is higher.

    Raises:
        ValueError: as ``query``; an image of another type or size than the field's picture; an
            opacity out of range; more samples than can be drawn; or, of a panoptic field, a
            legend or no names.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError(
            f"image must be an (H, W, 3) uint8 RGB array, got {getattr(image, 'dtype', image)!r}"
        )
    if image.shape != (*field.image_size, 3):
        raise ValueError(
            f"image must have the shape of the field's picture, {(*field.image_size, 3)}, got "
            f"{image.shape}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    panoptic = isinstance(field, PanopticField)
    if panoptic and (legend or not names):
        raise ValueError(
            "legend=True and names=False are of semantic drawings: a panoptic one has a colour for "
            "each instance, and names on the segments"
        )
    samples = field.query(size, window).size
    window = (0, 0, *field.image_size) if window is None else window
    if not is_drawable(samples, (window[2] - window[0], window[3] - window[1])):
        raise ValueError(
            f"size {samples} is more than the {MAX_SAMPLES} samples, {MAX_SIDE} a side, that can "
            "be drawn: choose a smaller size or window"
        )
    shown = resize_window(image, window, samples)
    if panoptic:
        ids, segments = field.panoptic(size, window)
        return draw_panoptic(shown, ids.numpy(), segments, metadata, alpha=alpha)
    labels = field.labels(size, window).numpy()
    options = {"alpha": alpha, "names": names, "outlines": outlines}
    drawn = draw_segmentation(shown, labels, metadata, **options)
    return add_legend(drawn, [labels], metadata) if legend else drawn


def is_drawable(size: Sequence[float], pixels: Sequence[float]) -> bool:
    """Whether a drawing of a size (h, w) is not too large.

    Args:
        size: of the drawing.
        pixels: (height, width) of the picture's window. A drawing of no more samples than these is
            the choice of the picture's owner.
    """
    height, width = size
    if height <= pixels[0] and width <= pixels[1]:
        return True
    return max(height, width) <= MAX_SIDE and height * width <= MAX_SAMPLES


def resize_window(image: np.ndarray, window: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Resize a window of an image bicubically, over all its pixels where it shrinks.

    Args:
        image: (H, W, 3) uint8.
        window: (y0, x0, y1, x1) in pixels, inside the image; it may end between pixels.
        size: (h, w) of the result.
    """
    y0, x0, y1, x1 = map(float, window)
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC, (x0, y0, x1, y1))
    return np.asarray(resized)
