"""Bootstrap intervals of the difference between two methods, over pictures and seeds.

A metric such as mIoU is that of a whole data set, not a mean over pictures: the counts of a
resampled data set's pictures are added up before the metric is taken (Efron & Tibshirani 1993,
Ch. 6).

Shape legend: S seeds, N pictures, K classes, R resamples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# From counts of whole data sets, (*R, ...) of any leading axes, to figures by name, (*R) each.
Metrics = Callable[[np.ndarray], Mapping[str, np.ndarray]]

_MAX_NUMBERS = 2**24  # of counts that are resampled at once


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


def paired_intervals(
    ours: np.ndarray, theirs: np.ndarray, metrics: Metrics, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Estimate the differences of metrics between two methods, ``ours`` minus ``theirs``.

    Both were trained with the same seeds and evaluated on the same pictures. A resample draws
    pictures and seeds with replacement, the same for both methods; the figures are taken of each
    seed's data set, and their means over the seeds compared.

    Args:
        ours, theirs: (S, N, ...) counts of each seed and picture.
        metrics: see :data:`Metrics`; a resample in which a figure is NaN is left out of it.
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
    rng = np.random.default_rng(seed)
    seeds, pictures = ours.shape[:2]
    weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)  # (R, N)
    drawn = rng.integers(seeds, size=(resamples, seeds))
    found = _differences(ours, theirs, metrics, np.ones((1, pictures)))
    step = max(1, _MAX_NUMBERS // max(1, ours[:, 0].size))
    parts = [
        _differences(ours, theirs, metrics, weights[start : start + step])
        for start in range(0, resamples, step)
    ]
    intervals = {}
    for name, difference in found.items():
        each = np.concatenate([part[name] for part in parts])  # (R, S)
        means = np.take_along_axis(each, drawn, axis=1).mean(axis=1)
        low, high = (
            np.nanpercentile(means, [2.5, 97.5]) if np.isfinite(means).any() else (np.nan,) * 2
        )
        intervals[name] = Interval(float(difference.mean()), float(low), float(high))
    return intervals


def _differences(
    ours: np.ndarray, theirs: np.ndarray, metrics: Metrics, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute (R, S) differences of data sets with each picture as often as (R, N) weights say."""
    both = [
        metrics(np.stack([_weighted(weights, one) for one in counts], axis=1))
        for counts in (ours, theirs)
    ]
    return {name: both[0][name] - both[1][name] for name in both[0]}


def _weighted(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum (N, ...) counts to (R, ...)."""
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    return (weights @ flat).reshape(len(weights), *counts.shape[1:])
