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

from ..choices import IMAGE_SUFFIXES
from ..files import atomic_path
from .captions import add_legend, caption, letter_size
from .drawing import draw_points, draw_segmentation

_BACKGROUND = 255
_GAP = 6  # pixels between two panels


def side_by_side(
    image: np.ndarray,
    prediction: np.ndarray,
    metadata: Metadata,
    ground_truth: np.ndarray | None = None,
    *,
    min_width: int = 480,
    alpha: float = 0.6,
    names: bool = True,
    outlines: bool = False,
    legend: bool = False,
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
        outlines: draw lines between regions.
        legend: put the classes that are drawn under the row.

    Returns:
        The row, an RGB image.
    """
    scale = enlargement(image, min_width)
    drawn = {"prediction": prediction}
    if ground_truth is not None:
        drawn["ground truth"] = ground_truth
    options = {"scale": scale, "alpha": alpha, "names": names, "outlines": outlines}
    panels = {
        title: draw_segmentation(image, one, metadata, **options) for title, one in drawn.items()
    }
    row = image_and_panels(image, panels, scale=scale)
    size = letter_size(*panels["prediction"].shape[:2])
    return add_legend(row, drawn.values(), metadata, size) if legend else row


def sample_row(
    image: np.ndarray,
    sem_seg: np.ndarray,
    metadata: Metadata,
    points: np.ndarray | None = None,
    point_labels: np.ndarray | None = None,
    *,
    min_width: int = 480,
    names: bool = True,
    outlines: bool = False,
    legend: bool = False,
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
        outlines: draw lines between regions.
        legend: put the classes that are drawn under the row.

    Returns:
        The row, an RGB image.
    """
    scale = enlargement(image, min_width)
    options = {"scale": scale, "names": names, "outlines": outlines, "stripes": True}
    labels = draw_segmentation(image, sem_seg, metadata, **options)
    panels = {"labels (striped: ignored)": labels}
    if points is not None:
        drawn = draw_points(image, points, point_labels, metadata, scale=scale)
        panels[f"{len(points)} points"] = drawn
    row = image_and_panels(image, panels, scale=scale)
    size = letter_size(*labels.shape[:2])
    return add_legend(row, [sem_seg], metadata, size) if legend else row


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
    size = letter_size(*first.shape[:2])
    captioned = [caption(panel, title, size) for title, panel in {"image": first, **panels}.items()]
    return _join(captioned, axis=1)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 1) -> np.ndarray:
    """Arrange pictures in rows of ``columns``.

    All columns are as wide as the widest picture, a row is as high as its highest.

    Raises:
        ValueError: there are none, or ``columns`` is not positive.
    """
    if not pictures or columns < 1:
        raise ValueError(
            f"pictures and columns must be 1 or more, got {len(pictures)} and {columns}"
        )
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        height = max(picture.shape[0] for picture in row)
        joined = _join([_fit(picture, height, width) for picture in row], axis=1)
        rows.append(_fit(joined, height, columns * (width + _GAP) - _GAP))
    return _join(rows, axis=0)


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an RGB image as PNG, complete or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def check_image_path(path: str | os.PathLike[str]) -> None:
    """Check that a path's suffix is of a kind of picture that can be written.

    Raises:
        ValueError: it is of none; the message has those that are.
    """
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"output must end in {', '.join(IMAGE_SUFFIXES)}, got {os.fspath(path)!r}")


def save_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an RGB image in the format of the path's suffix, complete or not at all.

    Raises:
        ValueError: no format has this suffix.
    """
    check_image_path(path)
    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format=kind)


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
