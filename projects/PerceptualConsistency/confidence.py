"""Confidence in predictions from a labelled frame nearby, and how well it tells right from wrong.

Shape legend: K classes, h x w positions, N judged positions.
"""

import numpy as np
from consistency import one_hot, perceptual_consistency
from scipy.stats import rankdata
from torch import Tensor


def neighbour_consistency(
    features: Tensor,
    labels: Tensor,
    neighbour_features: Tensor,
    neighbour_labels: Tensor,
    num_classes: int,
) -> Tensor:
    """Consistency (h, w) from 0 to 1 of predicted labels with the true ones of another frame.

    Multiplied by the softmax confidence it is a confidence that knows of the labelled frame. NaN
    where it is not known.

    Args:
        features: (C, h, w) of the frame.
        labels: (h, w) predicted there.
        neighbour_features: (C, h', w') of a frame nearby.
        neighbour_labels: (h', w') true labels there; those of ``num_classes`` or more are none.
        num_classes: K.
    """
    scores = (one_hot(each, num_classes, features.dtype) for each in (labels, neighbour_labels))
    pair = perceptual_consistency(features, neighbour_features, *scores, clamp=True)
    return pair.forward


def auroc(scores: np.ndarray, correct: np.ndarray) -> float:
    """Area under the ROC curve of scores (N,) for being correct (N,), from 0 to 1.

    It is the probability that a correct position has the higher score than a wrong one, equal
    scores counting half. NaN if all are correct, or none.
    """
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[correct].sum() - right * (right + 1) / 2) / (right * wrong))
