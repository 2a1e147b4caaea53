"""Precision and recall with a tolerance, against distances measured one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifa_d2.metrics.tolerance import near_counts, tolerant_figures


def brute_force(label, prediction, num_classes, chosen, tolerance) -> list[int]:
    true = np.argwhere(label == chosen)
    predicted = np.argwhere((prediction == chosen) & (label != num_classes))

    def near(some, others) -> int:
        return sum(
            any(((one - other) ** 2).sum() <= tolerance**2 for other in others) for one in some
        )

    return [near(predicted, true), len(predicted), near(true, predicted), len(true)]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    tolerance=st.integers(0, 4),
    seed=st.integers(0, 999),
)
def test_counts_are_those_of_every_pair_of_pixels(size, tolerance, seed):
    rng = np.random.default_rng(seed)
    label = (rng.random(size) < 0.15).astype(np.uint8)
    label[rng.random(size) < 0.1] = 2  # ignored
    prediction = (rng.random(size) < 0.15).astype(np.uint8)
    found = near_counts(label, prediction, 2, 1, tolerance)
    assert found.tolist() == brute_force(label, prediction, 2, 1, tolerance)


def test_a_line_beside_the_line_counts_up_to_the_tolerance():
    label, prediction = np.zeros((2, 9, 9), np.uint8)
    label[4] = 1
    prediction[6] = 1
    assert near_counts(label, prediction, 2, 1, 2).tolist() == [9, 9, 9, 9]
    assert near_counts(label, prediction, 2, 1, 1).tolist() == [0, 9, 0, 9]


def test_without_a_tolerance_it_is_precision_and_recall():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 2, (2, 20, 30)).astype(np.uint8)
    figures = tolerant_figures(near_counts(label, prediction, 2, 1, 0))
    hits = ((label == 1) & (prediction == 1)).sum()
    precision, recall = hits / (prediction == 1).sum(), hits / (label == 1).sum()
    assert figures["Precision"] == pytest.approx(100 * precision)
    assert figures["Recall"] == pytest.approx(100 * recall)
    assert figures["F1"] == pytest.approx(200 * precision * recall / (precision + recall))


def test_nothing_to_divide_by_is_no_number():
    assert tolerant_figures(np.array([0, 3, 0, 5])) == {"Precision": 0, "Recall": 0, "F1": 0}
    assert all(math.isnan(value) for value in tolerant_figures(np.zeros(4, int)).values())


def test_figures_of_many_counts_are_each_ones() -> None:
    counts = np.array([[6, 10, 9, 10], [0, 0, 0, 7], [0, 3, 0, 0], [0, 2, 0, 4], [3, 3, 4, 4]])
    together = tolerant_figures(counts)
    assert together["F1"][0] == pytest.approx(200 * 0.6 * 0.9 / 1.5)
    assert together["F1"][3:].tolist() == [0, 100]
    for index, one in enumerate(counts):
        alone = {name: values[index] for name, values in together.items()}
        assert tolerant_figures(one) == pytest.approx(alone, nan_ok=True)
