"""Metrics of arrays, against what they say by hand, and against the evaluator of files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ifa_d2.metrics import SegmentationMetrics

NAMES = ("grass", "rock", "water")
ROOT = Path(__file__).parents[2]


def _pictures(count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, pictures = np.random.default_rng(0), []
    for index in range(count):
        blocks = rng.integers(0, 3, (4, 5))
        label = blocks.repeat(6, 0).repeat(7, 1)[: 20 + index]
        prediction = np.where(rng.random(label.shape) < 0.2, (label + 1) % 3, label)
        label[rng.random(label.shape) < 0.1] = 255
        pictures.append((label, prediction))
    return pictures


def test_a_picture_by_hand() -> None:
    metrics = SegmentationMetrics(NAMES, boundary_widths=(), trimap_widths=())
    label = np.array([[0, 0, 1, 255], [0, 1, 1, 2]])
    prediction = np.array([[0, 1, 1, 1], [0, 1, 0, 0]])
    metrics.update(label, prediction)
    figures = metrics.compute()
    # grass: 2 of 3 + 2 wrong ones; rock: 2 of 3 + 1; water: none of 1
    assert figures["IoU-grass"] == pytest.approx(100 * 2 / 5)
    assert figures["IoU-rock"] == pytest.approx(100 * 2 / 4)
    assert figures["IoU-water"] == 0
    assert figures["mIoU"] == pytest.approx(100 * (2 / 5 + 2 / 4) / 3)
    assert figures["pACC"] == pytest.approx(100 * 4 / 7)
    assert metrics.confusion[:-1, :-1].tolist() == [[2, 1, 0], [1, 2, 0], [1, 0, 0]]
    assert metrics.num_pictures == 1


def test_parts_add_up_and_stay() -> None:
    pictures = _pictures()
    options = {"f1_classes": ("rock",), "f1_tolerance": 1}
    whole = SegmentationMetrics(NAMES, **options)
    parts = [SegmentationMetrics(NAMES, **options) for _ in pictures]
    for part, pair in zip(parts, pictures, strict=True):
        whole.update(*pair)
        part.update(*pair)
    before = [array.copy() for array in parts[0].counts]
    total = parts[0].of_all([part.counts for part in parts])
    assert total.compute() == whole.compute()
    assert total.class_rows() == whole.class_rows()
    assert total.num_pictures == 3
    assert all(map(np.array_equal, parts[0].counts, before))
    whole.reset()
    assert whole.num_pictures == 0 and not whole.confusion.any()


def test_types_and_ignored_values_do_not_matter() -> None:
    expected = SegmentationMetrics(NAMES)
    for label, prediction in _pictures():
        expected.update(label, prediction)
    for ignore_label, dtype in ((3, np.uint8), (-1, np.int16), (65535, np.uint16)):
        metrics = SegmentationMetrics(NAMES, ignore_label)
        for label, prediction in _pictures():
            other = np.where(label == 255, ignore_label, label).astype(dtype)
            metrics.update(other, prediction.astype(np.int32))
        assert metrics.compute() == expected.compute()


def test_more_than_256_classes() -> None:
    metrics = SegmentationMetrics([f"class {k}" for k in range(300)], 1000)
    label = np.full((5, 6), 299)
    label[0] = 1000
    metrics.update(label, np.full((5, 6), 299))
    assert metrics.compute()["IoU-class 299"] == 100
    assert metrics.compute()["absent_classes"] == 299


@pytest.mark.parametrize(
    ("label", "prediction", "message"),
    [
        (
            np.zeros((2, 3)),
            np.zeros((2, 3), int),
            r"label must be \(H, W\) integers, got \(2, 3\) f",
        ),
        (np.zeros((2, 3), int), np.zeros(6, int), r"prediction must be \(H, W\) integers"),
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"of one shape, got \(2, 3\) and \(3, 2\)"),
        (
            np.array([[0, 7]]),
            np.array([[0, 0]]),
            r"label must hold a class of 0 to 2, or "
            r"ignore_label 255, got 7 at \(y, x\) = \(0, 1\)",
        ),
        (
            np.array([[0, 0]]),
            np.array([[0, -1]]),
            r"prediction must hold .*, got -1 at",
        ),
        (np.array([[0, 255]]), np.array([[0, 255]]), r"prediction must hold .* got 255 at"),
    ],
)
def test_what_is_no_label_is_refused(
    label: np.ndarray, prediction: np.ndarray, message: str
) -> None:
    metrics = SegmentationMetrics(NAMES)
    with pytest.raises(ValueError, match=message):
        metrics.update(label, prediction)
    assert metrics.num_pictures == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ()}, "class_names must have one name or more"),
        ({"ignore_label": 2}, "ignore_label must be none of the 3 classes, got 2"),
        ({"f1_classes": ("moss",)}, "f1_classes must be of"),
        ({"f1_tolerance": -1}, "f1_tolerance must be 0 pixels or more, got -1"),
        ({"boundary_widths": (0,)}, "boundary_widths must be whole numbers of pixels"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationMetrics(**{"class_names": NAMES, **options})


def test_metrics_need_neither_torch_nor_detectron2() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, detectron2=None)\n"
        "import numpy as np\n"
        "from ifa_d2.metrics import SegmentationMetrics\n"
        "metrics = SegmentationMetrics(['a', 'b'])\n"
        "metrics.update(np.eye(9, dtype=int), np.eye(9, dtype=int))\n"
        "print(metrics.compute()['mIoU'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "100.0"
