"""Measures near boundaries: boundary IoU, and trimaps.

Distances are in whole pixels, of rows or of columns, whichever is more (chessboard distance): an
erosion with a 3 x 3 square, repeated d times, reaches the distance d.

A pixel is inside its class's mask, further than d from its contour, where the smallest and the
largest label of the square around it are both its own. So one erosion and one dilation of the
label map erode every class's own mask at once.

Shape legend: H x W pixels, K classes; index K of a label map stands for "no class".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import cv2
import numpy as np

from .confusion import count_pairs


@dataclass(frozen=True)
class Width:
    """Distance from a boundary within which pixels count.

    Attributes:
        value: whole pixels, or below 1 a share of the picture's diagonal, as in Cheng et al. 2021
            (https://arxiv.org/abs/2103.16562: 0.02, and 0.005 for Cityscapes).
    """

    value: int | float

    @classmethod
    def parse(cls, parameter: str, values: Sequence[int | float]) -> tuple["Width", ...]:
        """Parse widths from a user's numbers.

        Raises:
            ValueError: a number that is neither, or one that comes twice; it names ``parameter``.
        """
        widths = []
        for value in values:
            whole = isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
            share = isinstance(value, Real) and not isinstance(value, Integral) and 0 < value < 1
            if not (whole or share):
                raise ValueError(
                    f"{parameter} must be whole numbers of pixels from 1 on, or shares of the "
                    f"picture's diagonal between 0 and 1, got {value!r}"
                )
            widths.append(cls(int(value) if whole else float(value)))
        if len(set(widths)) < len(widths):
            raise ValueError(f"{parameter} must be different numbers, got {list(values)}")
        return tuple(widths)

    @property
    def name(self) -> str:
        """Text for a metric's name: "3px" or "0.5pct"."""
        return f"{self.value}px" if isinstance(self.value, int) else f"{100 * self.value:g}pct"

    def pixels(self, size: tuple[int, int]) -> int:
        """Distance in pixels, at least 1, in a picture of (height, width)."""
        if isinstance(self.value, int):
            return min(self.value, max(1, *size))
        return max(1, round(self.value * float(np.hypot(*size))))


class BoundaryCounter:
    """Confusion matrices of one picture near its boundaries."""

    def __init__(self, label: np.ndarray, prediction: np.ndarray, num_classes: int) -> None:
        """
        Args:
            label: (H, W), classes and ``num_classes`` for ignored pixels.
            prediction: (H, W), classes, of the same unsigned type.
            num_classes: K.
        """
        self._label = label
        self._num_classes = num_classes
        self._prediction = prediction
        # Predictions on ignored pixels must neither count nor shape a contour.
        self._masked = self._keep(prediction, label != num_classes)
        self._mixed: dict[int, np.ndarray] = {}

    def boundary(self, width: Width) -> np.ndarray:
        """Matrix of both maps, each kept only near the contours of its own masks.

        ``union_figures`` makes boundary IoU of it (Cheng et al. 2021). The mask of a class is that
        of its labelled pixels; the picture's edge and unlabelled pixels are outside of it, for the
        prediction as for the label.
        """
        distance = width.pixels(self._label.shape)
        label = self._band(self._label, self._mixed_label(distance), distance)
        mixed = mixed_within(self._masked, distance)
        return count_pairs(label, self._band(self._masked, mixed, distance), self._num_classes)

    def trimap(self, width: Width) -> np.ndarray:
        """Matrix of the labelled pixels near another label (Kohli et al. 2009, IJCV 82).

        Unlabelled pixels are another label, the picture's edge is none.
        """
        near = self._keep(self._label, self._mixed_label(width.pixels(self._label.shape)))
        return count_pairs(near, self._prediction, self._num_classes)

    def _mixed_label(self, distance: int) -> np.ndarray:
        if distance not in self._mixed:
            self._mixed[distance] = mixed_within(self._label, distance)
        return self._mixed[distance]

    def _band(self, labels: np.ndarray, mixed: np.ndarray, distance: int) -> np.ndarray:
        """Keep labels near other labels or the picture's edge; no class elsewhere."""
        band = self._keep(labels, mixed)
        for edge in (np.s_[:distance], np.s_[-distance:]):
            band[edge] = labels[edge]
            band[:, edge] = labels[:, edge]
        return band

    def _keep(self, labels: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Keep labels where a (H, W) mask is true; no class elsewhere."""
        kept = np.full_like(labels, self._num_classes)
        return cv2.copyTo(labels, where.view(np.uint8), kept)


def mixed_within(labels: np.ndarray, distance: int) -> np.ndarray:
    """Mask (H, W) of the pixels with another label within a distance.

    Args:
        labels: (H, W) of uint8 or uint16.
        distance: at least 1.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    return cv2.erode(labels, square) != cv2.dilate(labels, square)
