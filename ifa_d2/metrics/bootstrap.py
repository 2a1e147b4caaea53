"""Bootstrap intervals of the difference between two methods, over pictures and seeds.

A metric such as mIoU is that of a whole data set, not a mean over pictures: the counts of a
resampled data set's pictures are added up before the metric is taken (Efron & Tibshirani 1993,
Ch. 6).

Shape legend: S seeds, N pictures, L counts of a picture, R resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# From counts of whole data sets (R, S, L) to figures by name, (R, S) each.
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
    ours: Sequence[Any],
    theirs: Sequence[Any],
    metrics: Metrics,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Estimate the differences of metrics between two methods, ``ours`` minus ``theirs``.

    Both were trained with the same seeds and evaluated on the same pictures. A resample draws
    pictures and seeds with replacement, the same for both methods; the figures are taken of each
    seed's data set, and their means over the seeds compared.

    Args:
        ours, theirs: (N, L) counts of each of S seeds; arrays, or SciPy's sparse ones.
        metrics: see :data:`Metrics`; a resample in which a figure is NaN is left out of it.
        resamples: how many.
        seed: of the draws.

    Raises:
        ValueError: counts of other shapes than each other's, or without seeds or pictures.
    """
    shapes = [[one.shape for one in counts] for counts in (ours, theirs)]
    if shapes[0] != shapes[1] or len(set(shapes[0])) != 1 or 0 in shapes[0][0]:
        raise ValueError(
            "ours and theirs must have counts of one shape (pictures, counts) for each of as many "
            f"seeds, got {shapes[0]} and {shapes[1]}"
        )
    rng = np.random.default_rng(seed)
    seeds, (pictures, length) = len(ours), ours[0].shape
    weights = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)  # (R, N)
    drawn = rng.integers(seeds, size=(resamples, seeds))
    found = _differences(ours, theirs, metrics, np.ones((1, pictures)))
    step = max(1, _MAX_NUMBERS // (seeds * length))
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
    ours: Sequence[Any], theirs: Sequence[Any], metrics: Metrics, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute (R, S) differences of data sets with each picture as often as (R, N) weights say."""
    both = [
        metrics(np.stack([weights @ one for one in counts], axis=1)) for counts in (ours, theirs)
    ]
    return {name: both[0][name] - both[1][name] for name in both[0]}
