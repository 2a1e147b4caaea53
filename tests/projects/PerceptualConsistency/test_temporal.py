"""Warped labels and constancy, on moves and changes that are known."""

import cv2
import numpy as np
import pytest
from temporal import Constancy, FlowConsistency, warp_labels


def texture(height: int, width: int) -> np.ndarray:
    """A picture whose every part looks different, (H, W, 3) uint8."""
    noise = np.random.default_rng(0).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (255 * smooth).astype(np.uint8)[..., None].repeat(3, axis=2)


def test_a_flow_of_whole_pixels_is_a_shift() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (6, 9), dtype=np.uint8)
    flow = np.zeros((6, 9, 2), np.float32)
    flow[..., 0], flow[..., 1] = 2, -1  # (x, y): what is looked for lies two right, one up
    warped = warp_labels(labels, flow, 5)
    assert np.array_equal(warped[1:, :-2], labels[:-1, 2:])
    assert (warped[0] == 5).all() and (warped[:, -2:] == 5).all()


def test_labels_that_move_with_the_picture_are_consistent() -> None:
    whole = texture(80, 140)
    labels = np.zeros((80, 140), np.uint8)
    labels[20:60, 40:90] = 1
    earlier, later = whole[:, :130], whole[:, 6:136]  # six pixels to the left, not square
    moving = FlowConsistency(2)
    moving.add(earlier, later, labels[:, :130], labels[:, 6:136])
    still = FlowConsistency(2)
    still.add(earlier, later, labels[:, :130], labels[:, :130])
    assert moving.figure() > 0.97 > 0.9 > still.figure()


def test_a_class_that_one_map_has_alone_counts() -> None:
    image = texture(64, 64)
    labels = np.zeros((64, 64), np.uint8)
    other = labels.copy()
    other[:32] = 2
    pair = FlowConsistency(4)
    assert np.isnan(pair.figure())
    pair.add(image, image, labels, other)
    assert pair.figure() == pytest.approx(0.25)


def oracle(truths: np.ndarray, predictions: np.ndarray, length: int, void: int) -> float:
    """mVC of whole (T, H, W) clips, run by run."""
    shares = []
    for start in range(len(truths) - length + 1):
        part, answer = truths[start : start + length], predictions[start : start + length]
        stays = (part == part[0]).all(axis=0) & (part[0] < void)
        if stays.any():
            shares.append((answer == answer[0]).all(axis=0)[stays].mean())
    return float(np.mean(shares)) if shares else float("nan")


def test_constancy_is_that_of_whole_clips() -> None:
    rng = np.random.default_rng(0)
    truths = np.where(rng.random((20, 5, 7)) < 0.9, 1, rng.integers(0, 4, (20, 5, 7)))
    predictions = np.where(rng.random((20, 5, 7)) < 0.9, 2, rng.integers(0, 3, (20, 5, 7)))
    counted = Constancy((2, 3, 8, 30))
    for truth, prediction in zip(truths, predictions, strict=True):
        counted.add(truth, prediction, 3)
    for length, figure in counted.figures().items():
        expected = oracle(truths, predictions, length, 3)
        assert figure == pytest.approx(expected, nan_ok=True), length
    assert np.isnan(counted.figures()[30])


def test_constancy_is_not_correctness() -> None:
    counted = Constancy((2,))
    for _ in range(3):
        counted.add(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), 2)
    assert counted.figures() == {2: 1.0}
    with pytest.raises(ValueError, match=r"lengths .* \(8, 1\)"):
        Constancy((8, 1))
