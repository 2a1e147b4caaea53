"""Label pictures of annotations that are polygons or masks: each is filled with its class.

Shape legend: H x W the picture's size in pixels. Points are (x, y) in pixels, and the centre of the
first pixel is (0.5, 0.5), as in COCO, whose code fills them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle

OVERLAPS = ("area", "order")
_POINTS = 3  # a polygon has at least


def draw_annotations(
    annotations: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    *,
    background: int,
    overlap: str = "order",
) -> np.ndarray:
    """Fill annotations with their classes, (H, W), uint8 where they fit and int32 otherwise.

    Args:
        annotations: each with `category_id`, the class, and `segmentation`: polygons, each as
            x, y, x, y, ...; or a mask as COCO's run lengths, compressed or not.
        size: (H, W).
        background: class of the pixels in no annotation.
        overlap: which one lies above: "area", the smaller one, and of equal ones the later; or
            "order", the later one.

    Raises:
        ValueError: see :func:`check_segmentation`.
    """
    encoded = [_encode(one["segmentation"], size) for one in annotations]
    order = list(range(len(annotations)))
    if overlap == "area":
        order.sort(key=lambda index: -int(rle.area(encoded[index])))
    classes = [one["category_id"] for one in annotations]
    deep = max([background, *classes]) > 255
    label = np.full(size, background, np.int32 if deep else np.uint8)
    for index in order:
        label[rle.decode(encoded[index]).astype(bool)] = classes[index]
    return label


def check_segmentation(segmentation: object, size: tuple[int, int]) -> None:
    """Check polygons or a mask of COCO's format without filling them.

    Raises:
        ValueError: there are none, a polygon has fewer than three points or what is no number, or
            a mask is of another size; the message is the rest of a sentence.
    """
    if isinstance(segmentation, Mapping):
        found = segmentation.get("size")
        if "counts" not in segmentation or list(found or ()) != list(size):
            raise ValueError(
                f"has a mask of (height, width) {found}, but its image has {list(size)}"
            )
        return
    if not isinstance(segmentation, Sequence) or not segmentation:
        raise ValueError("has no segmentation: a box alone does not say which pixels are of it")
    for polygon in segmentation:
        if not isinstance(polygon, Sequence) or len(polygon) < 2 * _POINTS or len(polygon) % 2:
            raise ValueError(f"has a polygon of less than {_POINTS} points (x, y): {polygon!r}")
        if not all(isinstance(one, int | float) and math.isfinite(one) for one in polygon):
            raise ValueError(f"has a polygon of what are no numbers: {polygon!r}")


def _encode(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of polygons or of a mask, as pycocotools has them."""
    check_segmentation(segmentation, size)
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        return rle.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation
    polygons = [[float(one) for one in polygon] for polygon in segmentation]
    return rle.merge(rle.frPyObjects(polygons, *size))
