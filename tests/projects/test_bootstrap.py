"""Intervals over pictures and seeds, and the figures that they are of."""

import numpy as np
import pytest
from bootstrap import f1, mean_boundary_iou, mean_iou, paired_interval

from ifa_d2.metrics.confusion import confusion_figures, mean_of_known, union_figures


def matrices(*shape: int, seed: int = 0) -> np.ndarray:
    """Confusion matrices of three classes and "no class"."""
    return np.random.default_rng(seed).integers(0, 50, (*shape, 4, 4))


def share(counts: np.ndarray) -> np.ndarray:
    """Percent of (*R, 2) hits of trials."""
    return 100 * counts[..., 0] / counts[..., 1]


def test_figures_are_the_evaluators():
    counts = matrices(5)
    counts[2, 1] = 0  # a class in no label
    counts[3, 1] = counts[3, :, 1] = 0  # and one that is nowhere
    for matrix, iou, boundary in zip(
        counts, mean_iou(counts), mean_boundary_iou(counts), strict=True
    ):
        figures = confusion_figures(matrix, count_predicted_only=False)
        assert iou == pytest.approx(100 * figures.miou)
        expected = mean_of_known(union_figures(matrix, np.ones(3, bool)))
        assert boundary == pytest.approx(100 * expected)


def test_f1_is_the_harmonic_mean():
    assert f1(np.array([6.0, 10, 9, 10])) == pytest.approx(200 * 0.6 * 0.9 / 1.5)
    assert f1(np.array([[0.0, 0, 0, 7], [0, 3, 0, 0], [3, 3, 4, 4]])).tolist() == [0, 0, 100]


def test_a_method_does_not_differ_from_itself():
    counts = matrices(3, 20)
    interval = paired_interval(counts, counts, mean_iou)
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
    first = paired_interval(ours, theirs, mean_iou, resamples=50, seed=4)
    assert first == paired_interval(ours, theirs, mean_iou, resamples=50, seed=4)
    assert first != paired_interval(ours, theirs, mean_iou, resamples=50, seed=5)


@pytest.mark.parametrize("shape", [(3, 19), (2, 20), (0, 20)])
def test_shapes_must_fit(shape):
    with pytest.raises(ValueError, match="one shape"):
        paired_interval(matrices(*shape), matrices(3, 20), mean_iou)
