"""Intervals over pictures and seeds."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from ifa_d2.metrics import bootstrap
from ifa_d2.metrics.bootstrap import Interval, paired_intervals
from ifa_d2.metrics.confusion import confusion_figures


def matrices(*shape: int, seed: int = 0) -> np.ndarray:
    """Flat confusion matrices of three classes and "no class"."""
    return np.random.default_rng(seed).integers(0, 50, (*shape, 16))


def miou(counts: np.ndarray) -> dict[str, np.ndarray]:
    square = counts.reshape(*counts.shape[:-1], 4, 4)
    return {"mIoU": confusion_figures(square, count_predicted_only=False).miou}


def share(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Percent of (*R, 2) hits of trials."""
    return {"share": 100 * counts[..., 0] / counts[..., 1]}


def paired_interval(ours: np.ndarray, theirs: np.ndarray, metrics: Any, **options: int) -> Interval:
    """The only one."""
    (interval,) = paired_intervals(ours, theirs, metrics, **options).values()
    return interval


def test_a_method_does_not_differ_from_itself():
    counts = matrices(3, 20)
    interval = paired_interval(counts, counts, miou)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


def test_a_shift_of_every_picture_is_certain():
    rng = np.random.default_rng(1)
    theirs = np.stack([rng.integers(10, 60, (3, 40)), np.full((3, 40), 100)], axis=-1)
    ours = theirs + np.array([5, 0])
    interval = paired_interval(ours, theirs, share)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((5, 5, 5))
    reversed_ = paired_interval(theirs, ours, share)
    assert reversed_.mean == pytest.approx(-5)
    assert str(interval) == "+5.00 [+5.00, +5.00]"


def test_the_mean_is_of_the_data_sets_not_of_pictures():
    """One large picture outweighs many small ones."""
    theirs = np.array([[[0, 1000], *[[0, 1]] * 9]])
    ours = np.array([[[1000, 1000], *[[0, 1]] * 9]])
    assert paired_interval(ours, theirs, share).mean == pytest.approx(100 * 1000 / 1009)


@pytest.mark.parametrize("noise", ["pictures", "seeds"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(noise):
    """Differences with a known mean of 2: about 95 of 100 intervals hold it (fewer of few seeds,
    as a bootstrap of few draws is too narrow; far from none and from all of the width)."""
    rng, held, widths = np.random.default_rng(3), 0, []
    for trial in range(100):
        size = (1, 50) if noise == "pictures" else (8, 1)
        theirs = np.stack([np.full(size, 50.0), np.full(size, 100.0)], -1)
        ours = theirs.copy()
        ours[..., 0] += rng.normal(2, 3, size)
        interval = paired_interval(ours, theirs, share, resamples=400, seed=trial)
        held += interval.low <= 2 <= interval.high
        widths.append(interval.high - interval.low)
    assert 80 <= held < 100
    expected = 2 * 1.96 * 3 / np.sqrt(50 if noise == "pictures" else 8)
    assert np.mean(widths) == pytest.approx(expected, rel=0.25)


def test_draws_are_repeated_by_their_seed():
    ours, theirs = matrices(2, 9), matrices(2, 9, seed=1)
    first = paired_interval(ours, theirs, miou, resamples=50, seed=4)
    assert first == paired_interval(ours, theirs, miou, resamples=50, seed=4)
    assert first != paired_interval(ours, theirs, miou, resamples=50, seed=5)


def test_sparse_counts_are_counts():
    ours, theirs = matrices(2, 9), matrices(2, 9, seed=1)
    ours[:, :, 3:9] = 0
    sparse = [[csr_array(one) for one in counts] for counts in (ours, theirs)]
    assert paired_interval(*sparse, miou) == paired_interval(ours, theirs, miou)


@pytest.mark.parametrize("shape", [(3, 19), (2, 20), (0, 20)])
def test_shapes_must_fit(shape):
    with pytest.raises(ValueError, match="one shape"):
        paired_interval(matrices(*shape), matrices(3, 20), miou)


def test_many_counts_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch):
    """Of counts that are whole numbers, to the bit."""
    ours, theirs = matrices(2, 9), matrices(2, 9, seed=1)
    whole = paired_interval(ours, theirs, miou, resamples=50)
    monkeypatch.setattr(bootstrap, "_MAX_NUMBERS", 7 * 2 * 16 + 1)
    assert paired_interval(ours, theirs, miou, resamples=50) == whole


def test_a_figure_that_some_resamples_lack_is_of_the_others():
    """A class that is in one picture only."""

    def second(counts: np.ndarray) -> dict[str, np.ndarray]:
        square = counts.reshape(*counts.shape[:-1], 4, 4)
        iou = confusion_figures(square, count_predicted_only=False).iou
        return {"IoU": iou[..., 1], "of none": iou[..., 2]}

    ours = np.zeros((1, 3, 4, 4))
    ours[0, :, 0, 0], ours[0, 0, 1, 1], theirs = 5, 8, ours.copy()
    theirs[0, 0, 1, :2] = 4, 4
    ours, theirs = (counts.reshape(1, 3, 16) for counts in (ours, theirs))
    found = paired_intervals(100 * ours, 100 * theirs, second)
    assert (found["IoU"].mean, found["IoU"].low, found["IoU"].high) == pytest.approx((0.5,) * 3)
    assert np.isnan([found["of none"].mean, found["of none"].low]).all()
