"""Drawings side by side with captions, contact sheets, and their files.

Shape legend: H x W an image's size in pixels. Images are (H, W, 3) uint8 RGB arrays.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import Metadata
from PIL import Image

from ..files import atomic_path
from .drawing import draw_labels, draw_points, draw_segmentation

_BACKGROUND = 255
_GAP = 6  # pixels between two panels
_CAPTION_HEIGHT = 24


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
    """Draw a training sample: image, labels and, where there are, sampled points in a row.

    What is ignored is striped.

    Args:
        image: (H, W, 3).
        sem_seg: class ids, (H, W); pixels of other ids are ignored.
        metadata: with ``stuff_classes`` and ``stuff_colors``.
        points: (P, 2) of (y, x) in [0, 1] of the image.
        point_labels: their class ids, (P,).
        min_width: a smaller image is enlarged by a whole factor to about this width.
        names: write the class names on the larger regions.

    Returns:
        The row, an RGB image.
    """
    scale = enlargement(image, min_width)
    labels = draw_labels(image, sem_seg, metadata, scale=scale, names=names)
    panels = {"labels (striped: ignored)": labels}
    if points is not None:
        drawn = draw_points(image, points, point_labels, metadata, scale=scale)
        panels[f"{len(points)} points"] = drawn
    return image_and_panels(image, panels, scale=scale)


def enlargement(image: np.ndarray, min_width: int = 480) -> int:
    """Whole factor that takes an image to about a width, 1 if it is wide enough."""
    return max(1, round(min_width / image.shape[1]))


def image_and_panels(
    image: np.ndarray, panels: Mapping[str, np.ndarray], *, scale: int = 1
) -> np.ndarray:
    """Put an image and drawings of it in a row, with captions.

    Args:
        image: (H, W, 3).
        panels: (scale * H, W', 3) each, under their captions.
        scale: of the drawings to the image, a whole factor.
    """
    first = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    captioned = [_caption(panel, title) for title, panel in {"image": first, **panels}.items()]
    return _join(captioned, axis=1)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Arrange pictures in rows of ``columns``, in cells of the largest one's size.

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
    """Write an RGB image as PNG, complete or not at all."""
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
    """Join pictures of one height (axis 1) or one width (axis 0), with gaps between them."""
    parts = []
    for picture in pictures:
        shape = list(picture.shape)
        shape[axis] = _GAP
        parts += [np.full(shape, _BACKGROUND, np.uint8), picture]
    return np.concatenate(parts[1:], axis=axis)
