"""Pictures of segmentations: drawn over the image, side by side, and as a sheet of many.

Shape legend: H x W an image's size in pixels. Images are (H, W, 3) uint8 RGB arrays.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from .files import atomic_path

_BACKGROUND = 255
_GAP = 6  # pixels between two panels
_CAPTION_HEIGHT = 24
_NAMED_SHARE = 0.01  # of the picture, that a region must cover to have its name written on it
_STRIPE = 4  # pixels of the drawing, black on what is ignored
_POINT_RADIUS, _RING_RADIUS = 2.75, 4.0  # pixels of the drawing
_SUBPIXELS = 4  # binary digits of a pixel's fraction, for OpenCV


def draw_segmentation(
    image: np.ndarray,
    sem_seg: np.ndarray,
    metadata: Metadata,
    *,
    scale: float = 1.0,
    alpha: float = 0.6,
    names: bool = True,
) -> np.ndarray:
    """Draw a segmentation over its image in the data set's colours.

    Args:
        image: (H, W, 3).
        sem_seg: class ids, (H, W); what is not a class is left as it is.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        scale: of the drawing to the image.
        alpha: opacity of the colours.
        names: write the class names on the larger regions.

    Returns:
        (scale * H, scale * W, 3), whole pixels.

    Raises:
        ValueError: the segmentation has another size than the image.
    """
    if sem_seg.shape != image.shape[:2]:
        raise ValueError(
            f"sem_seg has (height, width) {sem_seg.shape}, but the image {image.shape[:2]}"
        )
    # Not by Visualizer.draw_sem_seg: its outlines run through the centres of the border pixels, and
    # what is a pixel wide would be lost.
    is_class = (sem_seg >= 0) & (sem_seg < len(metadata.stuff_classes))
    colors = np.asarray(metadata.stuff_colors, np.float64)[np.where(is_class, sem_seg, 0)]
    blended = np.where(is_class[..., None], (1 - alpha) * image + alpha * colors, image)
    if not names and scale == 1.0:
        return blended.round().astype(np.uint8)
    visualizer = Visualizer(blended.round(), metadata, scale=scale)
    if names:
        for label in np.unique(sem_seg[is_class]):
            place = _largest_region(sem_seg == label)
            if place is not None:
                visualizer.draw_text(metadata.stuff_classes[label], place, color="white")
    return visualizer.output.get_image()


def draw_panoptic(
    image: np.ndarray,
    segment_ids: np.ndarray,
    segments: Sequence[dict[str, Any]],
    metadata: Metadata,
    *,
    scale: float = 1.0,
    alpha: float = 0.6,
) -> np.ndarray:
    """Draw a panoptic segmentation over its image, with names and scores, as Detectron2 does.

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
    if segment_ids.shape != image.shape[:2]:
        raise ValueError(
            f"segment_ids has (height, width) {segment_ids.shape}, but the image {image.shape[:2]}"
        )
    visualizer = Visualizer(image, metadata, scale=scale)
    ids = torch.from_numpy(segment_ids)
    return visualizer.draw_panoptic_seg(ids, list(segments), alpha=alpha).get_image()


def _largest_region(mask: np.ndarray) -> tuple[float, float] | None:
    """(x, y) in the middle of a mask's largest connected part; None if it is too small to name."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), 8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if areas.max(initial=0) < _NAMED_SHARE * mask.size:
        return None
    y, x = np.median(np.nonzero(parts == 1 + areas.argmax()), axis=1)
    return float(x), float(y)


def side_by_side(
    image: np.ndarray,
    prediction: np.ndarray,
    metadata: Metadata,
    ground_truth: np.ndarray | None = None,
    *,
    min_width: int = 480,
    alpha: float = 0.6,
    names: bool = True,
) -> np.ndarray:
    """Image, prediction and, where there is one, ground truth in a row, with captions.

    Args:
        image: (H, W, 3).
        prediction: class ids, (H, W).
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        ground_truth: class ids, (H, W); what is not a class is not drawn.
        min_width: a smaller image is enlarged by a whole factor to about this width.
        alpha: opacity of the colours.
        names: write the class names on the larger regions.

    Returns:
        The row, an RGB image.
    """
    scale = enlargement(image, min_width)
    drawn = {"prediction": prediction}
    if ground_truth is not None:
        drawn["ground truth"] = ground_truth
    options = {"scale": scale, "alpha": alpha, "names": names}
    panels = [draw_segmentation(image, one, metadata, **options) for one in drawn.values()]
    return image_and_panels(image, dict(zip(drawn, panels, strict=True)), scale=scale)


def enlargement(image: np.ndarray, min_width: int = 480) -> int:
    """The whole factor that takes an image to about a width, 1 if it is wide enough."""
    return max(1, round(min_width / image.shape[1]))


def image_and_panels(
    image: np.ndarray, panels: Mapping[str, np.ndarray], *, scale: int = 1
) -> np.ndarray:
    """An image and drawings of it in a row, with captions.

    Args:
        image: (H, W, 3).
        panels: (scale * H, W', 3) each, under their captions.
        scale: of the drawings to the image, a whole factor.
    """
    first = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    captioned = [_caption(panel, title) for title, panel in {"image": first, **panels}.items()]
    return _join(captioned, axis=1)


def draw_points(
    image: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    metadata: Metadata,
    *,
    scale: int = 1,
) -> np.ndarray:
    """Draw labelled points over an image, each in its class's colour; ignored ones are hollow.

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


def sample_row(
    image: np.ndarray,
    sem_seg: np.ndarray,
    metadata: Metadata,
    points: np.ndarray | None = None,
    point_labels: np.ndarray | None = None,
    *,
    min_width: int = 480,
    names: bool = True,
) -> np.ndarray:
    """What a model is trained with: image, labels and, where there are, sampled points in a row.

    What is ignored is striped.

    Args:
        image: (H, W, 3).
        sem_seg: class ids, (H, W); what is not a class is ignored.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        points: (P, 2) of (y, x) in [0, 1] of the image.
        point_labels: their class ids, (P,).
        min_width: a smaller image is enlarged by a whole factor to about this width.
        names: write the class names on the larger regions.

    Returns:
        The row, an RGB image.
    """
    scale = max(1, round(min_width / image.shape[1]))
    first = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    labels = draw_segmentation(image, sem_seg, metadata, scale=scale, names=names).copy()
    ignored = ((sem_seg < 0) | (sem_seg >= len(metadata.stuff_classes))).astype(np.uint8)
    ignored = cv2.resize(ignored, labels.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    rows, columns = np.indices(ignored.shape, sparse=True)
    labels[(ignored == 1) & ((rows + columns) // _STRIPE % 2 == 0)] = 0
    panels = [_caption(first, "image"), _caption(labels, "labels (striped: ignored)")]
    if points is not None:
        drawn = draw_points(image, points, point_labels, metadata, scale=scale)
        panels.append(_caption(drawn, f"{len(points)} points"))
    return _join(panels, axis=1)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Pictures in rows of ``columns``, each in a cell of the largest one's size.

    Raises:
        ValueError: there are none, or ``columns`` is not positive.
    """
    if not pictures or columns < 1:
        raise ValueError(
            f"pictures and columns must be 1 or more, got {len(pictures)} and {columns}"
        )
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    cells = [_fit(picture, height, width) for picture in pictures]
    rows = [
        _fit(_join(cells[start : start + columns], axis=1), height, columns * (width + _GAP) - _GAP)
        for start in range(0, len(cells), columns)
    ]
    return _join(rows, axis=0)


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an RGB image as PNG; it appears under its name when it is complete."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def save_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an RGB image in the format of the path's suffix, complete or not at all.

    Raises:
        ValueError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in Image.registered_extensions():
        raise ValueError(f"an image must have a suffix such as .png or .jpg, got {path}")
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=Image.registered_extensions()[suffix])


def _caption(panel: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((_CAPTION_HEIGHT, panel.shape[1], 3), _BACKGROUND, np.uint8)
    place, font = (4, _CAPTION_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, text, place, font, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([strip, panel])


def _fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    below, right = height - picture.shape[0], width - picture.shape[1]
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=_BACKGROUND)


def _join(pictures: Sequence[np.ndarray], *, axis: int) -> np.ndarray:
    """Pictures of one height (axis 1) or one width (axis 0) with gaps between them."""
    parts = []
    for picture in pictures:
        shape = list(picture.shape)
        shape[axis] = _GAP
        parts += [np.full(shape, _BACKGROUND, np.uint8), picture]
    return np.concatenate(parts[1:], axis=axis)
