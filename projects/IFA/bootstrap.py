"""Bootstrap intervals of the difference between two methods, over pictures and seeds.

A metric such as mIoU is that of a whole data set, not a mean over pictures: the counts of a
resampled data set's pictures are added up before the metric is taken (Efron & Tibshirani 1993,
Ch. 6).

Shape legend: S seeds, N pictures, K classes, R resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# From counts of whole data sets, (*R, ...) of any leading axes, to a figure in percent, (*R).
Metric = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """Difference with the interval that holds 95 % of its resamples.

    Attributes:
        mean: of all pictures and seeds.
        low, high: 2.5th and 97.5th percentile of the resamples.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format as "+1.23 [+0.45, +2.01]"."""
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired_interval(
    ours: np.ndarray, theirs: np.ndarray, metric: Metric, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate the difference of a metric between two methods, ``ours`` minus ``theirs``.

    Both were trained with the same seeds and evaluated on the same pictures. A resample draws
    pictures and seeds with replacement, the same for both methods; the figure is taken of each
    seed's data set, and its mean over the seeds compared.

    Args:
        ours, theirs: (S, N, ...) counts of each seed and picture.
        metric: see :data:`Metric`.
        resamples: how many.
        seed: of the draws.

    Raises:
        ValueError: counts of other shapes than each other's, or without seeds or pictures.
    """
    if ours.shape != theirs.shape or ours.ndim < 2 or 0 in ours.shape[:2]:
        raise ValueError(
            f"ours and theirs must have one shape (seeds, pictures, ...), got {ours.shape} and "
            f"{theirs.shape}"
        )
    difference = metric(_totals(ours)) - metric(_totals(theirs))  # (S,)
    rng = np.random.default_rng(seed)
    seeds, pictures = ours.shape[:2]
    weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)  # (R, N)
    drawn = rng.integers(seeds, size=(resamples, seeds))
    both = [
        metric(np.stack([_weighted(weights, one) for one in counts], axis=1))  # (R, S)
        for counts in (ours, theirs)
    ]
    resampled = np.take_along_axis(both[0] - both[1], drawn, axis=1).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(difference.mean()), float(low), float(high))


def _totals(counts: np.ndarray) -> np.ndarray:
    return counts.astype(np.float64).sum(axis=1)


def _weighted(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum (N, ...) counts to (R, ...), each picture as often as (R, N) weights say."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (weights @ flat).reshape(len(weights), *counts.shape[1:])


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """Compute mIoU in percent of matrices (*R, K + 1, K + 1), over the classes in labels."""
    counts = counts[..., :-1, :-1]
    labelled, predicted = counts.sum(-1), counts.sum(-2)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _mean_ratio(hits, np.where(labelled > 0, labelled + predicted - hits, 0))


def mean_boundary_iou(counts: np.ndarray) -> np.ndarray:
    """Compute boundary IoU in percent of ``BoundaryCounter``'s matrices (*R, K + 1, K + 1).

    The mean is over the classes that have a boundary in either map.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)[..., :-1]
    return _mean_ratio(hits, counts.sum(-1)[..., :-1] + counts.sum(-2)[..., :-1] - hits)


def f1(counts: np.ndarray) -> np.ndarray:
    """Compute F1 in percent of (*R, 4) pixel counts.

    They are the predicted pixels near a true one, all predicted pixels, the true pixels near a
    predicted one, and all true pixels, see ``near_counts``.
    """
    near_true, predicted, near_predicted, true = np.moveaxis(counts, -1, 0)
    precision, recall = _ratio(near_true, predicted), _ratio(near_predicted, true)
    return 100 * np.nan_to_num(_ratio(2 * precision * recall, precision + recall))


def _mean_ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * np.nanmean(_ratio(part, whole), axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
