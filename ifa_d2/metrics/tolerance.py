"""Precision and recall of thin objects, with a tolerance in pixels.

A pixel beside the line counts as on it, as in the literature on cracks (Shi et al. 2016, IEEE T-ITS
17(12), CrackForest): a drawn line is never exact to the pixel.
"""

import cv2
import numpy as np

from .confusion import ratio


def near_counts(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, chosen: int, tolerance: int
) -> np.ndarray:
    """Count the pixels for precision, recall and F1 of a class in one picture.

    Args:
        label: (H, W) of uint8 or uint16, classes and ``num_classes`` for ignored pixels.
        prediction: (H, W) of the label's type, classes.
        num_classes: K.
        chosen: the class.
        tolerance: distance in pixels, in a straight line, up to which a pixel is near another.

    Returns:
        (4,) int64 numbers of labelled pixels: predicted as the class and near one of it; predicted
        as the class; of the class and near one that is predicted so; of the class.
    """
    true = label == chosen
    predicted = (prediction == chosen) & (label != num_classes)
    y, x = np.ogrid[-tolerance : tolerance + 1, -tolerance : tolerance + 1]
    disk = (y**2 + x**2 <= tolerance**2).astype(np.uint8)

    def near(mask: np.ndarray) -> np.ndarray:
        return cv2.dilate(mask.astype(np.uint8), disk) > 0

    pairs = (predicted & near(true), predicted, true & near(predicted), true)
    return np.array([mask.sum() for mask in pairs], np.int64)


def tolerant_figures(counts: np.ndarray) -> dict[str, float | np.ndarray]:
    """Compute ``Precision``, ``Recall`` and ``F1`` in percent; NaN for a division by zero.

    Args:
        counts: :func:`near_counts`, summed over pictures; or (*R, 4) of them, for (*R) figures.
    """
    near_true, predicted, near_predicted, true = np.moveaxis(counts, -1, 0)
    precision, recall = ratio(near_true, predicted), ratio(near_predicted, true)
    total = precision + recall
    # Without a hit both are 0, and so is their harmonic mean.
    f1 = np.where(total == 0, 0.0, ratio(2 * precision * recall, total))[()]
    return {"Precision": 100 * precision, "Recall": 100 * recall, "F1": 100 * f1}
