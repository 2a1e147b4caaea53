"""The size at which pictures are shown to a model, as far as augmentations resize them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from .augmentation import RandomScale
from .bands import bands_size
from .pictures import picture_size

_RESIZES = (
    RandomScale,
    *(T.Resize, T.ResizeShortestEdge, T.ResizeScale, T.RandomResize, T.ResizeTransform),
)
_DRAWS = 16  # of a random resize, for each picture


def typical_short_edge(
    records: Iterable[Mapping[str, Any]], augmentations: Iterable[T.Augmentation | T.Transform]
) -> float | None:
    """Compute the median shorter side of pictures, resized by augmentations.

    Crops and padding are passed over: they do not change how large things are. Random sizes are
    drawn from numpy's random state. Pictures are not decoded.

    Args:
        records: of the pictures, with `file_name`, and `bands` of those that are no RGB.
        augmentations: in their order; those that do not resize are passed over.

    Returns:
        Pixels; None without pictures.
    """
    resizes = [each for each in augmentations if isinstance(each, _RESIZES)]
    edges = []
    for record in records:
        path, bands = record["file_name"], record.get("bands")
        size = picture_size(path) if bands is None else bands_size(path, bands)
        edges += [min(_resize(size, resizes)) for _ in range(_DRAWS if resizes else 1)]
    return float(np.median(edges)) if edges else None


def _resize(
    size: tuple[int, int], resizes: Iterable[T.Augmentation | T.Transform]
) -> tuple[int, int]:
    for resize in resizes:
        image = np.broadcast_to(np.uint8(0), (*size, 3))  # of which no pixel is held
        transform = resize if isinstance(resize, T.Transform) else resize.get_transform(image)
        if isinstance(transform, T.ResizeTransform):  # not one that leaves the size
            size = transform.new_h, transform.new_w
    return size
