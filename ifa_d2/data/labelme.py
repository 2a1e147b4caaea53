"""Label files of LabelMe: a .json of named polygons, boxes, circles and masks."""

import base64
import binascii
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as rle

from .annotations import check_segmentation, draw_annotations
from .label_table import LabelTable

SUFFIX = ".json"
_KINDS = ("polygon", "rectangle", "circle", "mask")


def read_label(path: str, table: LabelTable | None) -> np.ndarray:
    """Fill the shapes of a file with their classes, (H, W); a later one lies above.

    Args:
        path: of the file.
        table: classes of the shapes' names, and of the pixels in none.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: no table of names, what is not of LabelMe, a shape without area such as a line,
            or a name that the table lacks; the message has the file and the number of the shape.
    """
    if table is None or table.background is None:
        raise ValueError(
            f"label {path!r} has polygons with names: register the data set with label_suffix="
            f"{SUFFIX!r}, and as classes or label_values these names"
        )
    with PathManager.open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"cannot read the label {path!r}: it is no JSON: {error}") from error
    size, shapes = _size_and_shapes(content, path)
    annotations = []
    for number, shape in enumerate(shapes, 1):
        place = f"shape {number}"
        try:
            class_id = table.class_of(shape["label"], path, place)
            segmentation = _segmentation(shape, size)
            check_segmentation(segmentation, size)
            annotations.append({"category_id": class_id, "segmentation": segmentation})
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"label {path!r}: {place} is not as LabelMe writes it: {error!r}"
            ) from error
        except ValueError as error:
            if path in str(error):
                raise
            raise ValueError(f"label {path!r}: {place} ({shape['label']!r}) {error}") from error
    return draw_annotations(annotations, size, background=table.background)


def _size_and_shapes(content: Any, path: str) -> tuple[tuple[int, int], list[Mapping[str, Any]]]:
    if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
        raise ValueError(f"label {path!r} is not of LabelMe: it has no list of shapes")
    size = content.get("imageHeight"), content.get("imageWidth")
    if not all(isinstance(one, int) and one > 0 for one in size):
        raise ValueError(
            f"label {path!r} has no imageHeight and imageWidth, got {size}: open it in LabelMe and "
            "save it again"
        )
    return size, content["shapes"]


def _segmentation(shape: Mapping[str, Any], size: tuple[int, int]) -> Any:
    """Convert a shape to COCO's polygons or mask."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind == "polygon" or (kind == "rectangle" and len(points) > 2):
        return [[side for x, y in points for side in (x, y)]]
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return [[left, top, right, top, right, bottom, left, bottom]]
    mask = np.zeros(size, np.uint8)
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        rows, columns = np.ogrid[: size[0], : size[1]]
        square = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2
        mask[square <= (edge_x - x) ** 2 + (edge_y - y) ** 2] = 1
    elif kind == "mask":
        _paste(mask, shape["mask"], points[0])
    else:
        raise ValueError(
            f"is a {kind}, which has no area: label with {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        )
    return rle.encode(np.asfortranarray(mask))


def _paste(mask: np.ndarray, encoded: str, corner: tuple[float, float]) -> None:
    """Put a shape's own small mask where its upper left corner is."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
            small = np.array(image) > 0
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise ValueError("has a damaged mask") from error
    left, top = (round(side) for side in corner)
    height, width = small.shape
    if top < 0 or left < 0 or top + height > mask.shape[0] or left + width > mask.shape[1]:
        raise ValueError(f"has a mask that ends beyond the picture of {mask.shape}")
    mask[top : top + height, left : left + width] = small
