import numpy as np
import pytest

from ifa_d2.evaluation.predictions import label_dtype
from ifa_d2.metrics.confusion import confusion_figures, count_pairs, union_figures


@pytest.mark.parametrize("max_pixels", [1, 130, 2**24])
@pytest.mark.parametrize("num_classes", [1, 2, 19, 171, 254, 255, 256, 300])
def test_pairs_are_counted(num_classes: int, max_pixels: int) -> None:
    rng = np.random.default_rng(num_classes)
    dtype = label_dtype(num_classes)
    label, prediction = rng.integers(0, num_classes + 1, (2, 37, 41)).astype(dtype)
    label[0, :2] = prediction[0, :2] = 0, num_classes
    expected = np.zeros((num_classes + 1,) * 2, np.int64)
    np.add.at(expected, (label.ravel(), prediction.ravel()), 1)
    counts = count_pairs(label, prediction, num_classes, max_pixels=max_pixels)
    np.testing.assert_array_equal(counts, expected)


def test_more_pixels_than_a_float_counts() -> None:
    """2 ** 24 + 1 is the first whole number that float32 has not."""
    label = np.zeros((2**12 + 1, 2**12), np.uint8)
    assert count_pairs(label, label, 1)[0, 0] == label.size


# Rows are labels, the last is ignored. Class 2 is only predicted, class 3 is nowhere.
COUNTS = np.array(
    [
        [6, 1, 1, 0, 0],
        [2, 4, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [9, 9, 9, 9, 0],
    ]
)


@pytest.mark.parametrize("counted", [False, True])
def test_figures(counted: bool) -> None:
    figures = confusion_figures(COUNTS, count_predicted_only=counted)
    zero = 0.0 if counted else np.nan
    np.testing.assert_allclose(figures.iou, [6 / 10, 4 / 7, zero, np.nan])
    np.testing.assert_allclose(figures.precision, [6 / 8, 4 / 5, 0, np.nan])
    np.testing.assert_allclose(figures.recall, [6 / 8, 4 / 6, np.nan, np.nan])
    assert figures.miou == pytest.approx((6 / 10 + 4 / 7) / (3 if counted else 2))
    assert figures.fwiou == pytest.approx((8 * 6 / 10 + 6 * 4 / 7) / 14)
    assert figures.macc == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert figures.pacc == pytest.approx(10 / 14)
    assert figures.absent.tolist() == [False, False, False, True]
    assert figures.predicted_only.tolist() == [False, False, True, False]


def test_nothing_is_labelled() -> None:
    counts = np.zeros((3, 3), np.int64)
    counts[2, 0] = 5
    figures = confusion_figures(counts, count_predicted_only=True)
    assert np.isnan([figures.miou, figures.fwiou, figures.macc, figures.pacc]).all()
    assert figures.absent.all()


def test_a_pixel_of_one_map_only_counts_against_its_class() -> None:
    counts = np.array([[3, 0, 2], [1, 4, 0], [0, 5, 70]])
    iou = union_figures(counts, np.array([True, True]))
    np.testing.assert_allclose(iou, [3 / (5 + 4 - 3), 4 / (5 + 9 - 4)])
    assert np.isnan(union_figures(counts, np.array([False, True]))[0])
