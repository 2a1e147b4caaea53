"""Clusters of classes for hierarchical supervision, from a stage's own confusion matrix.

Shape legend: K classes, n clusters of them. Confusion matrices are those of
:mod:`ifa_d2.metrics.confusion`, (K + 1, K + 1) with "no class" last.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform

from ifa_d2.metrics.confusion import confusion_figures

FEWEST = 2  # clusters that can be told apart


def class_similarity(counts: np.ndarray) -> np.ndarray:
    """How often two classes are taken for each other: s_ij = C_ij / C_i. + C_ji / C_j.

    Args:
        counts: confusion matrix C. Pixels without a class do not count, and a class without a
            labelled pixel is not taken for any other.

    Returns:
        (K, K) symmetric, from 0 to 2.
    """
    inside = counts[:-1, :-1].astype(np.float64)
    labelled = inside.sum(axis=1, keepdims=True)
    rates = np.divide(inside, labelled, out=np.zeros_like(inside), where=labelled > 0)
    return rates + rates.T


def nested_clusters(counts: np.ndarray) -> dict[int, tuple[int, ...]]:
    """Merge classes step by step, those that are taken for each other most often first.

    By average linkage: two clusters are as similar as their classes are on average, by
    :func:`class_similarity`.

    Args:
        counts: confusion matrix of two classes or more.

    Returns:
        By number of clusters, from K down to 2: the cluster of each class, from 0 on in the order
        of their first classes. Each partition is the one before with two clusters merged.

    Raises:
        ValueError: fewer than two classes.
    """
    num_classes = len(counts) - 1
    if num_classes < FEWEST:
        raise ValueError(f"counts must be of {FEWEST} classes or more, got {num_classes}")
    distance = 2 - class_similarity(counts)
    np.fill_diagonal(distance, 0)
    numbers = range(num_classes, FEWEST - 1, -1)
    columns = cut_tree(linkage(squareform(distance), method="average"), n_clusters=numbers).T
    return {
        number: _in_order(column) for number, column in zip(numbers, columns.tolist(), strict=True)
    }


def _in_order(names: Sequence[int]) -> tuple[int, ...]:
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(order[name] for name in names)


def merge_counts(counts: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    """Confusion matrix (n + 1, n + 1) of clusters, from that of their classes."""
    index = np.array([*clusters, max(clusters) + 1])
    side = index[-1] + 1
    merged = np.zeros((side, side), counts.dtype)
    np.add.at(merged, (index[:, None], index[None]), counts)
    return merged


def mean_iou(counts: np.ndarray) -> float:
    """Mean IoU, from 0 to 1, over the classes that have labels; NaN where none has."""
    return confusion_figures(counts, count_predicted_only=False).miou


def cluster_scores(counts: np.ndarray, clusters: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """Score a stage at each number of clusters: labels and predictions are mapped to them.

    Args:
        counts: the stage's confusion matrix.
        clusters: see :func:`nested_clusters`.

    Returns:
        Mean IoU by number of clusters.
    """
    return {number: mean_iou(merge_counts(counts, one)) for number, one in clusters.items()}


def choose_num_clusters(scores: Mapping[int, float], final_score: float) -> int:
    """Choose the number of clusters at which a stage is where the last stage is with all classes.

    In the plane of number of clusters and score, the last stage's point (K, final_score) and the
    origin give a ray; the largest number whose point lies on the ray or above is chosen. A stage
    that is as good as the last one keeps all classes.

    Args:
        scores: of a stage by number of clusters, the largest of which is K.
        final_score: of the last stage, with K classes.

    Returns:
        One of the numbers; the smallest where all points lie below the ray.

    Raises:
        ValueError: no scores, or a score that is not finite.
    """
    if not scores or not all(map(math.isfinite, (*scores.values(), final_score))):
        raise ValueError(
            f"scores must be finite, for one number of clusters or more, got {dict(scores)} and "
            f"{final_score} of the last stage: are there labelled pixels?"
        )
    num_classes = max(scores)
    above = [n for n, score in scores.items() if score * num_classes >= final_score * n]
    return max(above, default=min(scores))
