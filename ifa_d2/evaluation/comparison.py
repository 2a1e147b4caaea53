"""Comparison of methods by the evaluations of their runs.

Shape legend: S runs of a method, such as seeds; N pictures.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from ..metrics.bootstrap import Interval, paired_intervals
from .picture_counts import PictureCounts, check_alike

Runs = Mapping[str, PictureCounts]  # of one method, by names for errors


def mean_figures(runs: Runs) -> dict[str, list[float]]:
    """Compute the figures of each run, in percent by the evaluator's names: S values each."""
    check_alike(list(runs.items()))
    counts = np.stack([one.total for one in runs.values()])
    figures = next(iter(runs.values())).metrics(counts)
    return {name: values.tolist() for name, values in figures.items()}


def compare(ours: Runs, theirs: Runs) -> dict[str, Interval]:
    """Estimate ``ours`` minus ``theirs`` for each figure, with an interval.

    The i-th runs of both are a pair, such as of the same seed; see
    :func:`ifa_d2.metrics.bootstrap.paired_intervals`.

    Raises:
        ValueError: not as many of one as of the other, or of other pictures.
    """
    if len(ours) != len(theirs):
        raise ValueError(
            f"methods must have as many runs as each other, got {len(ours)} ({', '.join(ours)}) "
            f"and {len(theirs)} ({', '.join(theirs)})"
        )
    check_alike([*theirs.items(), *ours.items()])
    counts = ([one.counts for one in runs.values()] for runs in (ours, theirs))
    return paired_intervals(*counts, next(iter(ours.values())).metrics)


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """Format values as "51.0 ± 1.4", or as one number, or as "-" for none; NaN is none."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    text = f"{statistics.fmean(known):.{digits}f}"
    if len(known) > 1:
        text += f" ± {statistics.stdev(known):.{digits}f}"
    return text
