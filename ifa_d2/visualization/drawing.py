"""Drawings over an image: segmentations, panoptic ones, and points; and of entropy.

Shape legend: H x W an image's size in pixels. Images are (H, W, 3) uint8 RGB arrays.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.utils.visualizer import VisImage, Visualizer

from ..text import class_captions, draw_as_is
from .captions import letter_size

_NAMED_SHARE = 0.01  # of the picture, that a region must cover to have its name written on it
_STRIPE_SHARE = 0.01  # of the drawing's side, black where ignored
_OUTLINE_SHARE = 0.002  # of the drawing's side
_OUTLINE = (255, 255, 255)
_POINT_RADIUS, _RING_RADIUS = 2.75, 4.0  # pixels of the drawing
_SUBPIXELS = 4  # binary digits of a pixel's fraction, for OpenCV


class _Visualizer(Visualizer):
    """Detectron2's ``Visualizer`` with literal names, in letters that suit the picture."""

    def __init__(self, image: np.ndarray, metadata: Metadata, scale: float = 1.0) -> None:
        super().__init__(image, metadata, scale)
        size = letter_size(*(scale * side for side in image.shape[:2]))
        # Detectron2 multiplies it by the scale; a point is 1/72 inch.
        self._default_font_size = size * 72 / self.output.fig.dpi / scale

    def draw_text(self, text: str, position: tuple[float, float], **options: Any) -> VisImage:
        output = super().draw_text(text, position, **options)
        draw_as_is(output.ax.texts[-1])
        return output


def draw_segmentation(
    image: np.ndarray,
    sem_seg: np.ndarray,
    metadata: Metadata,
    *,
    scale: float = 1.0,
    alpha: float = 0.6,
    names: bool = True,
    outlines: bool = False,
    stripes: bool = False,
) -> np.ndarray:
    """Draw a segmentation over its image in the data set's colours.

    Args:
        image: (H, W, 3).
        sem_seg: class ids, (H, W); pixels of other ids are not drawn over.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        scale: of the drawing to the image.
        alpha: opacity of the colours.
        names: write the class names on the larger regions, the largest first; a name that would
            cover another is left out.
        outlines: draw white lines between regions, within a pixel of the drawing of their border.
        stripes: draw black stripes where there is no class.

    Returns:
        (scale * H, scale * W, 3), whole pixels.

    Raises:
        ValueError: the segmentation has another size than the image.
    """
    _check_size("sem_seg", sem_seg, image)
    # Not by Visualizer.draw_sem_seg: its outlines run through the centres of the border pixels, and
    # regions of one pixel's width would be lost.
    is_class = (sem_seg >= 0) & (sem_seg < len(metadata.stuff_classes))
    labels = np.where(is_class, sem_seg.astype(np.int32), np.int32(-1))
    colors = np.asarray(metadata.stuff_colors, np.float64)[np.where(is_class, sem_seg, 0)]
    blended = np.where(is_class[..., None], (1 - alpha) * image + alpha * colors, image)
    drawn = _enlarged(blended.round().astype(np.uint8), scale)
    if stripes:
        _draw_stripes(drawn, _enlarged(labels, scale) < 0)
    if outlines:
        _draw_outlines(drawn, _enlarged(labels, scale))
    return _draw_names(drawn, labels, metadata, scale) if names else drawn


def draw_entropy(entropy: np.ndarray, *, scale: float = 1.0) -> np.ndarray:
    """Draw the entropy of probabilities, from black (certain) to light yellow.

    Args:
        entropy: (H, W) as a share of ln K, as of
            :meth:`ifa_d2.modeling.SegmentationField.entropy`.
        scale: of the drawing to the entropy.

    Returns:
        (scale * H, scale * W, 3), whole pixels, in the colours of :func:`entropy_colors`.
    """
    return _enlarged(entropy_colors()[np.rint(255 * entropy).astype(np.uint8)], scale)


def entropy_colors() -> np.ndarray:
    """Colours of entropy from 0 to 1, (256, 3) uint8 RGB; their lightness grows evenly."""
    return np.rint(255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)


def draw_panoptic(
    image: np.ndarray,
    segment_ids: np.ndarray,
    segments: Sequence[dict[str, Any]],
    metadata: Metadata,
    *,
    scale: float = 1.0,
    alpha: float = 0.6,
) -> np.ndarray:
    """Draw a panoptic segmentation over its image, with names and scores.

    Args:
        image: (H, W, 3).
        segment_ids: (H, W), 0 or the id of one of the segments.
        segments: Detectron2's ``segments_info``.
        metadata: with ``thing_classes`` and ``stuff_classes``.
        scale: of the drawing to the image.
        alpha: opacity of the colours.

    Returns:
        (scale * H, scale * W, 3), whole pixels.

    Raises:
        ValueError: the segmentation has another size than the image.
    """
    _check_size("segment_ids", segment_ids, image)
    captioned = copy(metadata)
    for kind in ("thing_classes", "stuff_classes"):
        vars(captioned)[kind] = class_captions(metadata.get(kind) or ())
    visualizer = _Visualizer(image, captioned, scale=scale)
    ids = torch.from_numpy(segment_ids)
    return visualizer.draw_panoptic_seg(ids, list(segments), alpha=alpha).get_image()


def draw_points(
    image: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    metadata: Metadata,
    *,
    scale: int = 1,
) -> np.ndarray:
    """Draw labelled points over an image in their classes' colours; ignored ones are hollow.

    Args:
        image: (H, W, 3).
        points: (P, 2) of (y, x) in [0, 1] of the image.
        labels: class ids, (P,).
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        scale: of the drawing to the image, a whole factor.

    Returns:
        (scale * H, scale * W, 3).

    Raises:
        ValueError: not one label for each point.
    """
    if points.shape != (len(labels), 2):
        raise ValueError(f"points must be (P, 2) with P labels, got {points.shape}, {labels.shape}")
    drawn = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    one = 1 << _SUBPIXELS
    # OpenCV's coordinates are 0 at the centre of the first pixel.
    places = (points * drawn.shape[:2] - 0.5) * one
    radius, ring = round(_POINT_RADIUS * one), round(_RING_RADIUS * one)
    white = (255, 255, 255)
    for (y, x), label in zip(places.round().astype(int).tolist(), labels.tolist(), strict=True):
        if 0 <= label < len(metadata.stuff_classes):
            color = tuple(int(c) for c in metadata.stuff_colors[label])
            cv2.circle(drawn, (x, y), ring, white, cv2.FILLED, cv2.LINE_AA, _SUBPIXELS)
            cv2.circle(drawn, (x, y), radius, color, cv2.FILLED, cv2.LINE_AA, _SUBPIXELS)
        else:
            cv2.circle(drawn, (x, y), ring, white, 1, cv2.LINE_AA, _SUBPIXELS)
    return drawn


def _check_size(name: str, segmentation: np.ndarray, image: np.ndarray) -> None:
    if segmentation.shape != image.shape[:2]:
        raise ValueError(
            f"{name} has (height, width) {segmentation.shape}, but the image {image.shape[:2]}"
        )


def _enlarged(values: np.ndarray, scale: float) -> np.ndarray:
    """Enlarge by nearest neighbours, to a size of whole pixels as Detectron2's drawings."""
    size = [int(side * scale + 1e-2) for side in values.shape[1::-1]]
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _width_of(share: float, drawn: np.ndarray) -> int:
    """Width of a line, in whole pixels of a drawing."""
    return max(1, round(share * math.sqrt(drawn.shape[0] * drawn.shape[1])))


def _draw_stripes(drawn: np.ndarray, ignored: np.ndarray) -> None:
    rows, columns = np.indices(ignored.shape, sparse=True)
    black = (rows + columns) // _width_of(_STRIPE_SHARE, drawn) % 2 == 0
    drawn[ignored & black] = 0


def _draw_outlines(drawn: np.ndarray, labels: np.ndarray) -> None:
    edges = np.zeros(labels.shape, np.uint8)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    width = _width_of(_OUTLINE_SHARE, drawn)
    drawn[cv2.dilate(edges, np.ones((width, width), np.uint8)) > 0] = _OUTLINE


def _draw_names(
    drawn: np.ndarray, labels: np.ndarray, metadata: Metadata, scale: float
) -> np.ndarray:
    """Write names on the larger regions of labels (H, W), on a drawing enlarged by ``scale``."""
    regions = {int(label): _largest_region(labels == label) for label in np.unique(labels)}
    found = [(*region, label) for label, region in regions.items() if region and label >= 0]
    if not found:
        return drawn
    visualizer = _Visualizer(drawn, metadata)
    renderer = visualizer.output.canvas.get_renderer()
    captions = class_captions(metadata.stuff_classes)
    taken = []
    for _, x, y, label in sorted(found, key=lambda one: -one[0]):
        place = tuple((value + 0.5) * scale - 0.5 for value in (x, y))
        visualizer.draw_text(captions[label], place, color="white")
        text = visualizer.output.ax.texts[-1]
        text.set_verticalalignment("center")
        _keep_inside(visualizer.output)
        box = text.get_window_extent(renderer)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)
    return visualizer.output.get_image()


def _keep_inside(output: VisImage, margin: float = 4.0) -> None:
    """Move the last text, so that it keeps ``margin`` pixels from the border."""
    text = output.ax.texts[-1]
    box = text.get_window_extent(output.canvas.get_renderer())  # in pixels, y upwards
    width, height = output.fig.bbox.size
    right = max(0, margin - box.x0) - max(0, box.x1 + margin - width)
    up = max(0, margin - box.y0) - max(0, box.y1 + margin - height)
    x, y = text.get_position()
    text.set_position((x + right / output.scale, y - up / output.scale))


def _largest_region(mask: np.ndarray) -> tuple[int, float, float] | None:
    """Find the area of a mask's largest connected part and (x, y) deepest in it.

    None if it is too small for a name.
    """
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), 8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if areas.max(initial=0) < _NAMED_SHARE * mask.size:
        return None
    part = (parts == 1 + areas.argmax()).astype(np.uint8)
    # The picture's border counts as outside, so that names keep off it.
    depth = cv2.distanceTransform(np.pad(part, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # The middle line of a band is equally deep: take its point closest to the part's centre.
    ys, xs = np.nonzero(depth > depth.max() - 0.5)
    middle_y, middle_x = np.median(np.nonzero(part), axis=1)
    closest = np.hypot(ys - middle_y, xs - middle_x).argmin()
    return int(areas.max()), float(xs[closest]), float(ys[closest])
