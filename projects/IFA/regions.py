"""Frames around differences of segmentations, and colour maps."""

from collections.abc import Sequence

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # (y0, x0, y1, x1) in pixels
_FRAME = (255, 235, 0)
_FRAME_WIDTH = 2


def differing_regions(
    first: np.ndarray,
    second: np.ndarray,
    truth: np.ndarray,
    *,
    ignore_value: int = 255,
    thickness: int = 3,
    min_share: float = 0.002,
    margin: float = 0.02,
    max_regions: int = 4,
) -> list[Box]:
    """Find boxes of the largest connected regions in which two segmentations differ.

    Args:
        first, second, truth: class ids, (H, W).
        ignore_value: of ``truth``, where a difference does not count.
        thickness: pixels below which a difference is dropped, a square's side: a border that two
            models draw a pixel apart.
        min_share: of the picture, that a region must have.
        margin: around a region, as a share of the picture's shorter side.
        max_regions: how many to keep, after those whose boxes overlap are one.

    Returns:
        Boxes by their number of differing pixels, most first.
    """
    differ = ((first != second) & (truth != ignore_value)).astype(np.uint8)
    kernel = np.ones((thickness, thickness), np.uint8)
    # Beyond the border nothing differs, or thin strips along it would stay.
    border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    core = cv2.morphologyEx(differ, cv2.MORPH_OPEN, kernel, **border)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    height, width = differ.shape
    pad = round(margin * min(height, width))
    boxes = [
        (max(0, y - pad), max(0, x - pad), min(height, y + h + pad), min(width, x + w + pad))
        for x, y, w, h, area in statistics[1:].tolist()
        if area >= min_share * differ.size
    ]
    boxes = merge_boxes(boxes)
    counts = {box: int(core[box[0] : box[2], box[1] : box[3]].sum()) for box in boxes}
    return sorted(boxes, key=counts.__getitem__, reverse=True)[:max_regions]


def merge_boxes(boxes: Sequence[Box]) -> list[Box]:
    """Replace boxes that overlap by the box around them, until none do."""
    merged: list[Box] = []
    for box in boxes:
        while touching := next((b for b in merged if _overlap(b, box)), None):
            merged.remove(touching)
            pairs = list(zip(touching, box, strict=True))
            box = (*map(min, pairs[:2]), *map(max, pairs[2:]))
        merged.append(box)
    return merged


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_frames(image: np.ndarray, boxes: Sequence[Box], scale: int = 1) -> np.ndarray:
    """Draw frames on an image; boxes are in its pixels before it was enlarged by ``scale``."""
    drawn = np.array(image, order="C")
    for y0, x0, y1, x1 in boxes:
        corners = (scale * x0, scale * y0), (scale * x1 - 1, scale * y1 - 1)
        cv2.rectangle(drawn, *corners, (0, 0, 0), _FRAME_WIDTH + 2)
        cv2.rectangle(drawn, *corners, _FRAME, _FRAME_WIDTH)
    return drawn


def draw_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw a map (h, w) in colours (H, W, 3), dark to bright from 1st to 99th percentile."""
    low, high = np.percentile(values, (1, 99))
    shades = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    large = cv2.resize((255 * shades).astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS)[:, :, ::-1]


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge each pixel to a square of ``scale`` x ``scale``."""
    return np.kron(image, np.ones((scale, scale, 1), image.dtype))
