from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.evaluation import SemSegEvaluator, per_class_table

NAME = "evaluated"
CLASSES = ("grass", "rock", "water")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    register_sem_seg_folder(
        NAME, tmp_path / "images", tmp_path / "labels", CLASSES, ignore_label=11
    )
    yield tmp_path
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def write(root: Path, name: str, label: np.ndarray, *, palette: bool = False) -> dict:
    image = Image.fromarray(label.astype(np.uint8))
    if palette:
        image.putpalette(list(range(256)) * 3)
    image.save(root / "labels" / f"{name}.png")
    path = root / "images" / f"{name}.png"
    Image.new("RGB", image.size).save(path)
    return {"file_name": str(path)}


def logits(prediction: np.ndarray, num_classes: int = 3) -> dict:
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), num_classes)
    return {"sem_seg": one_hot.permute(2, 0, 1).float()}


def labels(prediction: np.ndarray) -> dict:
    return {"sem_seg": torch.from_numpy(prediction).byte()}


def evaluate(
    root: Path,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    answer: Callable[[np.ndarray], dict] = logits,
    **kwargs: bool,
) -> dict:
    inputs = [write(root, str(i), label, **kwargs) for i, (label, _) in enumerate(pairs)]
    evaluator = SemSegEvaluator(NAME, distributed=False)
    evaluator.reset()
    for one, (_, prediction) in zip(inputs, pairs, strict=True):
        evaluator.process([one], [answer(prediction)])
    return evaluator.evaluate()["sem_seg"]


def expected_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """IoU by its definition, over all pictures' labelled pixels."""
    label = np.concatenate([one.ravel() for one, _ in pairs])
    prediction = np.concatenate([other.ravel() for _, other in pairs])
    valid = label != 11
    label, prediction = label[valid], prediction[valid]
    return [
        100 * np.sum((label == k) & (prediction == k)) / np.sum((label == k) | (prediction == k))
        for k in range(3)
    ]


@pytest.mark.parametrize("answer", [logits, labels])
@pytest.mark.parametrize("palette", [False, True])
def test_figures_are_those_of_the_definition(
    root: Path, palette: bool, answer: Callable[[np.ndarray], dict]
) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for size in ((5, 8), (7, 3)):
        label, prediction = rng.integers(0, 3, size), rng.integers(0, 3, size)
        label[:2] = 11
        pairs.append((label, prediction))
    figures = evaluate(root, pairs, answer, palette=palette)
    iou = expected_iou(pairs)
    assert [figures[f"IoU-{name}"] for name in CLASSES] == pytest.approx(iou)
    assert figures["mIoU"] == pytest.approx(np.mean(iou))
    assert not [key for key in figures if "Boundary" in key]


def test_perfect_prediction_with_ignored_pixels(root: Path) -> None:
    label = np.array([[0, 1, 2, 11]])
    assert evaluate(root, [(label, np.array([[0, 1, 2, 0]]))])["mIoU"] == 100


@pytest.mark.parametrize("value", [3, 12, 255])
def test_label_that_is_no_class(root: Path, value: int) -> None:
    label = np.array([[0, value]])
    with pytest.raises(ValueError, match=rf"labels/0\.png' holds \[{value}\]: allowed are"):
        evaluate(root, [(label, np.zeros((1, 2)))])


def test_label_of_another_size(root: Path) -> None:
    with pytest.raises(ValueError, match=r"0\.png' has \(height, width\) \(2, 6\), but .*\(3, 4\)"):
        evaluate(root, [(np.zeros((2, 6)), np.zeros((3, 4)))])


def test_another_number_of_classes(root: Path) -> None:
    one = write(root, "0", np.zeros((1, 2)))
    evaluator = SemSegEvaluator(NAME, distributed=False)
    evaluator.reset()
    with pytest.raises(ValueError, match=r"predicts 5 classes, but evaluated has 3"):
        evaluator.process([one], [logits(np.zeros((1, 2)), num_classes=5)])


def test_predicted_label_that_is_no_class(root: Path) -> None:
    with pytest.raises(ValueError, match=r"predicts labels from 0 to 3, but evaluated has 3"):
        evaluate(root, [(np.zeros((1, 2)), np.array([[0, 3]]))], labels)


def test_predictions_are_written_where_asked(root: Path) -> None:
    one = write(root, "0", np.zeros((4, 4)))
    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(root / "out"))
    evaluator.reset()
    evaluator.process([one], [logits(np.zeros((4, 4)))])
    evaluator.evaluate()
    assert '"category_id": 0' in (root / "out" / "sem_seg_predictions.json").read_text()


def test_table() -> None:
    figures = {
        **{"IoU-grass": 50.0, "ACC-grass": 75.126},
        **{"IoU-rock": float("nan"), "ACC-rock": float("nan")},
        **{"mIoU": 50.0, "mACC": 75.126},
    }
    lines = per_class_table(figures, ("grass", "rock")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["class", "IoU", "accuracy"]
    assert cells[2:] == [
        ["grass", "50.00", "75.13"],
        ["rock", "-", "-"],
        ["mean", "50.00", "75.13"],
    ]
