import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.evaluation import SemSegEvaluator as Detectron2SemSegEvaluator
from PIL import Image

from ifa_d2.data import read_label, register_sem_seg_folder
from ifa_d2.evaluation import PredictionWriter, SemSegEvaluator
from tests.data.miniatures import make_cityscapes
from tests.evaluation.conftest import CLASSES, IGNORE, NAME, Pictures, labels, logits

Pairs = list[tuple[np.ndarray, np.ndarray]]


def evaluate(
    pictures: Pictures,
    pairs: Pairs,
    answer: Callable[[np.ndarray], dict] = logits,
    *,
    palette: bool = False,
    **options: Any,
) -> dict[str, float]:
    inputs = [pictures.write(str(i), label, palette=palette) for i, (label, _) in enumerate(pairs)]
    evaluator = SemSegEvaluator(NAME, distributed=False, **options)
    evaluator.reset()
    for one, (_, prediction) in zip(inputs, pairs, strict=True):
        evaluator.process([one], [answer(prediction)])
    return evaluator.evaluate()["sem_seg"]


def random_pairs(classes: int, predicted: int, sizes: tuple = ((5, 8), (7, 3))) -> Pairs:
    """Labels of the first ``classes``, two rows ignored, and predictions of the first ones."""
    rng = np.random.default_rng(0)
    pairs = []
    for size in sizes:
        label, prediction = rng.integers(0, classes, size), rng.integers(0, predicted, size)
        label[:2] = IGNORE
        pairs.append((label, prediction))
    return pairs


@pytest.mark.parametrize("answer", [logits, labels])
@pytest.mark.parametrize("palette", [False, True])
def test_figures_are_those_of_the_definition(
    pictures: Pictures, palette: bool, answer: Callable[[np.ndarray], dict]
) -> None:
    pairs = random_pairs(3, 3)
    figures = evaluate(pictures, pairs, answer, palette=palette)
    label = np.concatenate([one.ravel() for one, _ in pairs])
    prediction = np.concatenate([other.ravel() for _, other in pairs])
    prediction, label = prediction[label != IGNORE], label[label != IGNORE]
    masks = [(label == index, prediction == index) for index in range(3)]
    iou = [100 * np.sum(one & other) / np.sum(one | other) for one, other in masks]
    assert [figures[f"IoU-{name}"] for name in CLASSES] == pytest.approx(iou)
    assert figures["mIoU"] == pytest.approx(np.mean(iou))
    precision = [100 * np.sum(one & other) / np.sum(other) for one, other in masks]
    assert [figures[f"Precision-{name}"] for name in CLASSES] == pytest.approx(precision)
    assert figures["mPrecision"] == pytest.approx(np.mean(precision))
    assert figures["pACC"] == pytest.approx(100 * np.mean(label == prediction))


@pytest.mark.parametrize(("classes", "predicted"), [(3, 3), (2, 3), (2, 2), (3, 1)])
def test_same_as_detectron2(pictures: Pictures, classes: int, predicted: int) -> None:
    """Also with classes that are nowhere, in predictions only or in labels only."""
    pairs = random_pairs(classes, predicted)
    figures = evaluate(pictures, pairs)
    theirs = Detectron2SemSegEvaluator(NAME, distributed=False)
    theirs.reset()
    for index, (_, prediction) in enumerate(pairs):
        one = {"file_name": str(pictures.root / "images" / f"{index}.png")}
        theirs.process([one], [logits(prediction)])
    expected = theirs.evaluate()["sem_seg"]
    expected = {key: float(value) for key, value in expected.items() if "oundary" not in key}
    expected = {key: value for key, value in expected.items() if "min(" not in key}
    assert len(expected) == 4 + 2 * len(CLASSES)
    assert {key: figures[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    # Detectron2's own table shows the figures without a dash in their order.
    assert list(figures)[:5] == ["mIoU", "fwIoU", *(f"IoU-{name}" for name in CLASSES)]


LEFT_OUT = [(np.array([[0, 0]]), np.array([[0, 1]]))]


def test_classes_that_are_left_out_are_named(
    pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ifa_d2"):
        figures = evaluate(pictures, LEFT_OUT)
    assert (figures["absent_classes"], figures["predicted_only_classes"]) == (1, 1)
    assert "left out of the means, in no label and no prediction: water" in caplog.text
    assert "left out of mIoU, predicted but in no label: rock" in caplog.text


def test_figures_of_classes_that_are_left_out(pictures: Pictures) -> None:
    figures = evaluate(pictures, LEFT_OUT)
    assert figures["mIoU"] == 50 and figures["Precision-rock"] == 0
    assert np.isnan([figures["IoU-rock"], figures["IoU-water"]]).all()


def test_classes_that_are_only_predicted_count_as_0(
    pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="ifa_d2"):
        figures = evaluate(pictures, LEFT_OUT, count_predicted_only=True)
    assert figures["mIoU"] == 25 and figures["IoU-rock"] == 0
    assert figures["mBoundaryIoU_2pct"] == 25 and np.isnan(figures["BoundaryIoU_2pct-water"])
    assert "counted as IoU 0, predicted but in no label: rock" in caplog.text


def test_nothing_labelled_is_said(pictures: Pictures, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ifa_d2"):
        figures = evaluate(pictures, [(np.full((2, 3), IGNORE), np.zeros((2, 3)))])
    assert np.isnan(figures["mIoU"]) and np.isnan(figures["trimap_mIoU_1px"])
    assert "no pixel has a label" in caplog.text


def test_perfect_prediction_with_ignored_pixels(pictures: Pictures) -> None:
    label = np.array([[0, 1, 2, IGNORE]])
    figures = evaluate(pictures, [(label, np.array([[0, 1, 2, 0]]))])
    means = [key for key in figures if "-" not in key and not key.endswith("_classes")]
    assert len(means) == 4 + 1 + 2 + 2 * 3
    assert {figures[key] for key in means} == {100.0}


def test_boundary_figures_sum_over_pictures(pictures: Pictures) -> None:
    """Pixels are summed, not the figures of pictures averaged."""
    one = np.zeros((6, 6), int)
    one[:, 3:] = 1
    other = np.zeros((6, 12), int)
    other[:, 7:] = 1
    pairs = [(one, one), (other, np.zeros_like(other))]
    figures = evaluate(pictures, pairs, boundary_widths=(1,), trimap_widths=(2,))
    # Contours one pixel wide: of class 0 14, then 22 against 32, of which 18 agree.
    assert figures["BoundaryIoU_1px-grass"] == pytest.approx(100 * (14 + 18) / (14 + 36))
    assert figures["BoundaryIoU_1px-rock"] == pytest.approx(100 * 14 / (14 + 18))
    # Two columns on each side: 24 right pixels, then 12 right and 12 wrong ones.
    assert figures["trimap_pACC_2px"] == pytest.approx(75)
    assert np.isnan(figures["BoundaryIoU_1px-water"])
    assert not [key for key in figures if "pct" in key]


def test_measures_that_are_not_wanted(pictures: Pictures) -> None:
    figures = evaluate(pictures, random_pairs(3, 3), boundary_widths=(), trimap_widths=())
    assert not [key for key in figures if "oundary" in key or "trimap" in key]


def test_reset_forgets(pictures: Pictures) -> None:
    (label, prediction), *_ = random_pairs(3, 3)
    one = pictures.write("0", label)
    evaluator = SemSegEvaluator(NAME)
    evaluator.process([one], [logits(np.zeros_like(label))])
    evaluator.reset()
    evaluator.process([one], [logits(prediction)])
    assert evaluator.evaluate()["sem_seg"] == evaluate(pictures, [(label, prediction)])


def test_confusion_is_that_of_all_pictures_so_far(pictures: Pictures) -> None:
    pairs = random_pairs(3, 3)
    inputs = [pictures.write(str(index), label) for index, (label, _) in enumerate(pairs)]
    evaluator = SemSegEvaluator(NAME)
    expected = np.zeros((4, 4), np.int64)
    for one, (label, prediction) in zip(inputs, pairs, strict=True):
        evaluator.process([one], [logits(prediction)])
        np.add.at(expected, (np.where(label == IGNORE, 3, label), prediction), 1)
    assert np.array_equal(evaluator.metrics.confusion, expected)
    evaluator.metrics.confusion[:] = 0  # a copy
    assert evaluator.metrics.confusion.sum() == expected.sum()
    evaluator.reset()
    assert not evaluator.metrics.confusion.any()


def test_labels_of_more_than_8_bits(tmp_path: Path) -> None:
    """300 classes, and an ignored value beyond them."""
    folders = tmp_path / "images", tmp_path / "labels"
    names = [f"class {index}" for index in range(300)]
    register_sem_seg_folder("many_evaluated", *folders, names, ignore_label=65_535)
    label = np.arange(310).reshape(10, 31).repeat(3, 0).clip(0, 299)
    prediction = label.copy()
    prediction[0, 0] = 299
    label[-1] = 65_535
    one = Pictures(tmp_path).write("a", label)
    evaluator = SemSegEvaluator("many_evaluated", distributed=False)
    evaluator.process([one], [logits(prediction, 300)])
    figures = evaluator.evaluate()["sem_seg"]
    DatasetCatalog.remove("many_evaluated")
    MetadataCatalog.remove("many_evaluated")
    assert figures["IoU-class 0"] == pytest.approx(100 * 2 / 3)
    assert figures["IoU-class 7"] == 100
    assert figures["absent_classes"] == 0


@pytest.mark.parametrize("value", [3, 12, 255, 300])
def test_label_that_is_no_class(pictures: Pictures, value: int) -> None:
    label = np.array([[0, value]])
    with pytest.raises(ValueError, match=rf"labels/0\.png' holds {value}: allowed are the 3 clas"):
        evaluate(pictures, [(label, np.zeros((1, 2)))])


def test_label_of_another_size(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"0\.png' has \(height, width\) \(2, 6\), but .*\(3, 4\)"):
        evaluate(pictures, [(np.zeros((2, 6)), np.zeros((3, 4)))])


def test_another_number_of_classes(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"images/0\.png' has logits of 5 classes, but .* has 3"):
        evaluate(pictures, [(np.zeros((1, 2)),) * 2], lambda prediction: logits(prediction, 5))


def test_predicted_label_that_is_no_class(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"images/0\.png' has labels from 0 to 3, but .* the 3"):
        evaluate(pictures, [(np.zeros((1, 2)), np.array([[0, 3]]))], labels)


def test_image_without_label(pictures: Pictures) -> None:
    pictures.write("0", np.zeros((1, 2)))
    evaluator = SemSegEvaluator(NAME, distributed=False)
    with pytest.raises(ValueError, match=r"evaluated has no label for 'elsewhere\.png'"):
        evaluator.process([{"file_name": "elsewhere.png"}], [labels(np.zeros((1, 2)))])


def test_no_label_at_all_gives_no_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (2, 1)).save(tmp_path / "0.png")
    register_sem_seg_folder("unlabelled", tmp_path, None, CLASSES)
    evaluator = SemSegEvaluator("unlabelled", distributed=False, output_dir=str(tmp_path / "out"))
    evaluator.process([{"file_name": str(tmp_path / "0.png")}], [labels(np.zeros((1, 2)))])
    assert evaluator.evaluate() == {}
    assert "unlabelled: none of its records has a label, so there are no" in caplog.text
    assert not (tmp_path / "out").exists()
    # A label that only the input names makes the other one's lack a mistake again.
    label = tmp_path / "label.png"
    Image.new("L", (2, 1)).save(label)
    one = {"file_name": "1.png", "sem_seg_file_name": str(label)}
    evaluator.process([one], [labels(np.zeros((1, 2)))])
    with pytest.raises(ValueError, match="unlabelled has no label for 1 of 2 images"):
        evaluator.evaluate()
    DatasetCatalog.remove("unlabelled")
    MetadataCatalog.remove("unlabelled")


def test_label_that_the_input_names(pictures: Pictures) -> None:
    """As our mapper leaves it there; then the data set need not be listed."""
    pictures.write("0", np.array([[0, 1]]))
    one = {"file_name": "moved.png", "sem_seg_file_name": str(pictures.root / "labels/0.png")}
    evaluator = SemSegEvaluator(NAME, distributed=False)
    evaluator.process([one], [labels(np.array([[0, 1]]))])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100


def test_data_set_without_classes() -> None:
    with pytest.raises(ValueError, match=r"dataset_name must be a registered .* got 'unheard of'"):
        SemSegEvaluator("unheard of")
    MetadataCatalog.remove("unheard of")


def write_files(pictures: Pictures) -> tuple[Path, dict]:
    """The folder of an evaluation, and its figures."""
    folder = pictures.root / "out"
    pairs = [(np.array([[0, 0, 0, IGNORE]]), np.array([[0, 0, 1, 1]]))]
    return folder, evaluate(pictures, pairs, output_dir=str(folder), boundary_widths=(1,))


def test_confusion_matrix_is_written(pictures: Pictures) -> None:
    folder, _ = write_files(pictures)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"confusion_matrix.{suffix}" for suffix in ("csv", "json", "png")),
        "sem_seg_evaluation.json",
    ]
    matrix = json.loads((folder / "confusion_matrix.json").read_text())
    assert matrix["pixels"] == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_figures_are_written(pictures: Pictures) -> None:
    folder, figures = write_files(pictures)
    content = json.loads((folder / "sem_seg_evaluation.json").read_text())
    assert content["images"] == 1
    assert content["figures"]["mIoU"] == figures["mIoU"] == pytest.approx(200 / 3)
    assert (content["absent_classes"], content["predicted_only_classes"]) == (["water"], ["rock"])
    assert not content["predicted_only_classes_count_in_miou"]


def test_figures_of_classes_are_written(pictures: Pictures) -> None:
    folder, _ = write_files(pictures)
    content = json.loads((folder / "sem_seg_evaluation.json").read_text())
    grass, rock, _ = content["classes"]
    assert (grass["labelled_pixels"], rock["predicted_pixels"]) == (3, 1)
    assert grass["recall"] == pytest.approx(200 / 3) and grass["precision"] == 100
    assert grass["boundary_iou"] == {"1px": pytest.approx(200 / 3)}
    assert rock["iou"] is None


@pytest.fixture
def cityscapes(tmp_path: Path) -> Iterator[list[dict[str, str]]]:
    """A miniature in the official layout under the name "streets"; gives its records."""
    base = make_cityscapes(tmp_path, {"val": 2}) / "cityscapes"
    for polygons in base.rglob("*_gtFine_polygons.json"):
        target = str(polygons).replace("polygons.json", "labelTrainIds.png")
        json2labelImg(str(polygons), target, "trainIds")
    register_sem_seg_folder(
        "streets",
        base / "leftImg8bit/val",
        base / "gtFine/val",
        MetadataCatalog.get("cityscapes_fine_sem_seg_val").stuff_classes,
        image_suffixes="_leftImg8bit.png",
        label_suffix="_gtFine_labelTrainIds.png",
        evaluator_type="cityscapes_sem_seg",
    )
    MetadataCatalog.get("streets").gt_dir = str(base / "gtFine/val")
    yield DatasetCatalog.get("streets")
    DatasetCatalog.remove("streets")
    MetadataCatalog.remove("streets")


def test_same_as_cityscapes_benchmark(cityscapes: list[dict[str, str]], tmp_path: Path) -> None:
    """Which reads the original ids; with a class that is predicted but in no label."""
    rng = np.random.default_rng(0)
    ours = SemSegEvaluator("streets", distributed=False)
    theirs = CityscapesSemSegEvaluator("streets")
    theirs.reset()
    writer = PredictionWriter("streets", str(tmp_path / "out"), ["cityscapes"], distributed=False)
    for record in cityscapes:
        label = read_label(record["sem_seg_file_name"])
        wrong = rng.random(label.shape) < 0.3
        prediction = np.where(wrong | (label > 18), rng.integers(0, 12, label.shape), label)
        for evaluator in (ours, theirs, writer):
            evaluator.process([record], [logits(prediction, 19)])
    written = sorted((tmp_path / "out/cityscapes").iterdir())
    assert len(written) == 2
    for path in written:
        expected = read_label(str(Path(theirs._temp_dir) / path.name))
        np.testing.assert_array_equal(read_label(str(path)), expected)
    figures = ours.evaluate()["sem_seg"]
    assert figures["mIoU"] == pytest.approx(theirs.evaluate()["sem_seg"]["IoU"])
    assert figures["predicted_only_classes"] > 0 and figures["absent_classes"] > 0
    assert 20 < figures["mIoU"] < 80
