"""Confusion matrices of label maps, and their metrics.

Shape legend: K classes, H x W pixels. A confusion matrix is (K + 1, K + 1) int64: ``[i, j]`` counts
the pixels of label i that are predicted as j, and index K stands for "no class": in a label, for
ignored pixels. Metrics are of one matrix, or of many: what is (K + 1, K + 1) may be (*R, K + 1,
K + 1), what is (K,) is (*R, K) then, and what is one number (*R).
"""

from dataclasses import dataclass

import cv2
import numpy as np


def count_pairs(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, *, max_pixels: int = 2**24
) -> np.ndarray:
    """Confusion matrix of one picture.

    Args:
        label: (H, W) of uint8 or uint16, classes and ``num_classes``.
        prediction: (H, W) of the label's type, classes and ``num_classes``.
        num_classes: K.
        max_pixels: pixels counted at once, in bands of whole rows. OpenCV counts in float32, which
            holds every whole number up to 2**24.
    """
    side = num_classes + 1
    counts = np.zeros((side, side), np.int64)
    rows = max(1, max_pixels // label.shape[1])
    for top in range(0, len(label), rows):
        pair = [np.ascontiguousarray(each[top : top + rows]) for each in (label, prediction)]
        found = cv2.calcHist(pair, [0, 1], None, [side, side], [0, side, 0, side])
        counts += found.astype(np.int64)
    return counts


@dataclass(frozen=True)
class Figures:
    """Metrics of a confusion matrix, from 0 to 1; NaN for a division by zero.

    Attributes:
        iou: (K,) intersection over union of each class; NaN for those left out of the mean.
        precision: (K,) share of a class's predicted pixels that are of the class.
        recall: (K,) share of a class's labelled pixels that are predicted so: its accuracy.
        labelled, predicted: (K,) a class's pixels in labels and, where there is a label, in
            predictions.
        miou: mean of ``iou``.
        fwiou: mean of ``iou`` weighted by ``labelled``.
        macc: mean of ``recall``.
        pacc: share of labelled pixels that are predicted right.
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray
    miou: float | np.ndarray
    fwiou: float | np.ndarray
    macc: float | np.ndarray
    pacc: float | np.ndarray

    @property
    def absent(self) -> np.ndarray:
        """Mask (K,) of classes in no label and no prediction."""
        return (self.labelled == 0) & (self.predicted == 0)

    @property
    def predicted_only(self) -> np.ndarray:
        """Mask (K,) of classes in predictions, but in no label."""
        return (self.labelled == 0) & (self.predicted > 0)


def confusion_figures(counts: np.ndarray, *, count_predicted_only: bool) -> Figures:
    """Compute the metrics of a confusion matrix; ignored pixels do not count.

    Args:
        counts: the matrix.
        count_predicted_only: a class that is predicted but in no label counts in the mean IoU with
            its IoU, 0. False leaves it out, as it does a class that is in neither.
    """
    counts = counts[..., :-1, :-1]
    labelled, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    union = labelled + predicted - hits
    iou = ratio(hits, union if count_predicted_only else np.where(labelled > 0, union, 0))
    recall = ratio(hits, labelled)
    total = labelled.sum(axis=-1)
    return Figures(
        iou=iou,
        precision=ratio(hits, predicted),
        recall=recall,
        labelled=labelled,
        predicted=predicted,
        miou=mean_of_known(iou),
        fwiou=ratio(np.nansum(iou * labelled, axis=-1), total),
        macc=mean_of_known(recall),
        pacc=ratio(hits.sum(axis=-1), total),
    )


def union_figures(counts: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Compute (K,) IoU between two maps in which most pixels may be of no class.

    Unlike :func:`confusion_figures`, a pixel that has a class in only one of the maps counts
    against that class.

    Args:
        counts: the confusion matrix of the maps.
        counted: (K,) bool; the other classes come out as NaN.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)[..., :-1]
    union = counts.sum(axis=-1)[..., :-1] + counts.sum(axis=-2)[..., :-1] - hits
    return ratio(hits, np.where(counted, union, 0))


def mean_of_known(values: np.ndarray) -> float | np.ndarray:
    """Mean over the last axis of the values that are not NaN; NaN if none is left."""
    return ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def ratio(part: np.ndarray, whole: np.ndarray) -> float | np.ndarray:
    """Divide; NaN for a division by zero."""
    part, whole = np.asarray(part), np.asarray(whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)[()]
