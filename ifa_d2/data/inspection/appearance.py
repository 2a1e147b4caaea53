"""Tell pictures of labels from photographs by their pixels."""

import os

import numpy as np

from ..labels import LOSSY, read_label
from ..pictures import decode, opened

MOST_VALUES = 256  # in a label file; more are photographs, soft edges or instances
_PLAIN = ("1", "L", "P")
_ALIKE = 0.7  # share of neighbours in a row that are equal, in a label file


def has_colors(path: str) -> bool:
    """Tell whether a file has colours, without a palette.

    Raises:
        ValueError: it is damaged, or no picture.
    """
    with opened(path, "label") as image:
        return not (image.mode in _PLAIN or image.mode.startswith(("I", "F")))


def label_pixels(path: str) -> np.ndarray:
    """Read a label file's ids, or its colours as R 65536 + G 256 + B, (H, W).

    Raises:
        ValueError: the file is damaged, or of a kind that keeps no ids or colours.
    """
    if not has_colors(path):
        return read_label(path)
    with opened(path, "label") as image:
        if image.format in LOSSY:
            raise ValueError(f"label {path!r} is a {image.format}, which keeps no colours")
        return decode(image).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def looks_like_labels(path: str | os.PathLike[str]) -> bool:
    """Tell whether a picture has few values in areas of one value, and is no JPEG."""
    path = os.fspath(path)
    with opened(path, "image") as image:
        if image.format in LOSSY or image.mode == "F":
            return False
    pixels = label_pixels(path)
    across = pixels[:, 1:] == pixels[:, :-1]
    return len(np.unique(pixels)) <= MOST_VALUES and bool(across.size and across.mean() >= _ALIKE)
