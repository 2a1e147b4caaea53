"""Boundary measures against their definitions, class by class and pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifa_d2.metrics.boundary import BoundaryCounter, Width, mixed_within
from ifa_d2.metrics.confusion import confusion_figures, union_figures

K = 3  # classes; K itself is "no class"


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A label with pixels to ignore, and a prediction: blocks, so that there are insides."""
    height, width, block = (
        draw(st.integers(1, 14)),
        draw(st.integers(1, 14)),
        draw(st.integers(1, 5)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = rng.integers(0, (K + 1, K), (-(-height // block), -(-width // block), 2))
    fine = coarse.repeat(block, 0).repeat(block, 1)[:height, :width].astype(np.uint8)
    return fine[..., 0].copy(), fine[..., 1].copy()


def window(mask: np.ndarray, y: int, x: int, distance: int) -> np.ndarray:
    return mask[max(0, y - distance) : y + distance + 1, max(0, x - distance) : x + distance + 1]


def boundary_of(mask: np.ndarray, distance: int) -> np.ndarray:
    """A mask's pixels within a distance of what is not of it, the picture's outside included."""
    padded = np.pad(mask, distance)
    found = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        found[y, x] = not window(padded, y + distance, x + distance, distance).all()
    return found


@settings(max_examples=40)
@given(pair=maps(), distance=st.integers(1, 4))
def test_boundary_iou_is_that_of_each_class_own_mask(
    pair: tuple[np.ndarray, np.ndarray], distance: int
) -> None:
    label, prediction = pair
    counts = BoundaryCounter(label, prediction, K).boundary(Width(distance))
    # A width is never more than the picture's longer side, where every pixel is within it.
    found = union_figures(counts, np.ones(K, bool))
    valid = label != K
    for index in range(K):
        one = boundary_of((label == index) & valid, distance)
        other = boundary_of((prediction == index) & valid, distance)
        union = (one | other).sum()
        expected = (one & other).sum() / union if union else np.nan
        np.testing.assert_allclose(found[index], expected)


@settings(max_examples=40)
@given(pair=maps(), distance=st.integers(1, 4))
def test_trimap_is_of_labelled_pixels_near_another_label(
    pair: tuple[np.ndarray, np.ndarray], distance: int
) -> None:
    label, prediction = pair
    expected = np.zeros((K, K), np.int64)
    for y, x in np.argwhere(label != K):
        if (window(label, y, x, distance) != label[y, x]).any():
            expected[label[y, x], prediction[y, x]] += 1
    counts = BoundaryCounter(label, prediction, K).trimap(Width(distance))
    np.testing.assert_array_equal(counts[:K, :K], expected)


@settings(max_examples=20)
@given(pair=maps(), distance=st.integers(1, 4))
def test_perfect_prediction_whatever_is_said_of_ignored_pixels(
    pair: tuple[np.ndarray, np.ndarray], distance: int
) -> None:
    label, noise = pair
    prediction = np.where(label == K, noise, label)
    counter = BoundaryCounter(label, prediction, K)
    iou = union_figures(counter.boundary(Width(distance)), np.ones(K, bool))
    assert set(iou[np.isin(np.arange(K), label)]) <= {1.0}
    near = confusion_figures(counter.trimap(Width(distance)), count_predicted_only=True)
    assert near.pacc == 1 or np.isnan(near.pacc)


@settings(max_examples=20)
@given(pair=maps(), distance=st.integers(1, 4))
def test_mirrored_and_turned_pictures_count_the_same(
    pair: tuple[np.ndarray, np.ndarray], distance: int
) -> None:
    label, prediction = pair
    turned = [np.ascontiguousarray(each.T[::-1]) for each in pair]
    one, other = BoundaryCounter(label, prediction, K), BoundaryCounter(*turned, K)
    for measure in ("boundary", "trimap"):
        left, right = (getattr(each, measure)(Width(distance)) for each in (one, other))
        np.testing.assert_array_equal(left, right)


def test_more_than_255_classes() -> None:
    label = np.full((9, 9), 300, np.uint16)
    label[:, 4:] = 511
    assert mixed_within(label, 2).sum() == 9 * 4
    counts = BoundaryCounter(label, label, 600).boundary(Width(1))
    assert counts[300, 300] == 9 * 2 + 2 * 2 and counts[511, 511] == 9 * 2 + 3 * 2
    assert counts.sum() == 81


def test_a_wrong_contour_costs_more_nearer_to_it() -> None:
    """A half plane predicted one pixel off."""
    label = np.zeros((80, 80), np.uint8)
    label[:, 40:] = 1
    prediction = np.zeros_like(label)
    prediction[:, 41:] = 1
    counter = BoundaryCounter(label, prediction, 2)
    iou = [union_figures(counter.boundary(Width(d)), np.ones(2, bool)).mean() for d in (1, 3, 9)]
    assert iou[0] < iou[1] < iou[2] < 1
    near = [confusion_figures(counter.trimap(Width(d)), count_predicted_only=True) for d in (1, 4)]
    assert [each.pacc for each in near] == [1 / 2, 7 / 8]


@pytest.mark.parametrize(
    ("value", "name", "pixels"),
    [
        (1, "1px", 1),
        (7, "7px", 7),
        (0.005, "0.5pct", 11),
        (0.02, "2pct", 46),
        (1e-6, "0.0001pct", 1),
    ],
)
def test_widths(value: float, name: str, pixels: int) -> None:
    (width,) = Width.parse("widths", [value])
    assert (width.name, width.pixels((1024, 2048))) == (name, pixels)


@pytest.mark.parametrize("values", [[0], [-1], [1.0], [2.5], [0.0], [True], ["3"], [3, 3]])
def test_what_is_no_width(values: list) -> None:
    with pytest.raises(ValueError, match="boundary_widths must be"):
        Width.parse("boundary_widths", values)
