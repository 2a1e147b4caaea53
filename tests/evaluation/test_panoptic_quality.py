"""Panoptic quality as it is reported here, against its definition (Kirillov et al. 2019, Eq. 1)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from PIL import Image

from ifa_d2.data.panoptic_mapper import segment_picture
from ifa_d2.evaluation import PanopticEvaluator, SemSegEvaluator

NAME = "panoptic_by_hand"
# Ids in the data set; things are 0, 1 and stuff 1, 2 in the model's numbers.
CAR, CAT, SKY, SEA = 3, 7, 20, 30
SIZE = (8, 10)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    MetadataCatalog.get(NAME).set(
        panoptic_root=str(tmp_path / "panoptic"),
        panoptic_json=str(tmp_path / "panoptic.json"),
        thing_dataset_id_to_contiguous_id={CAR: 0, CAT: 1},
        stuff_dataset_id_to_contiguous_id={0: 0, SKY: 1, SEA: 2},
        stuff_classes=["things", "sky", "sea"],
        ignore_label=255,
        evaluator_type="coco_panoptic_seg",
    )
    yield tmp_path
    MetadataCatalog.pop(NAME)


def evaluate(root: Path, pairs: list[tuple[Any, Any]]) -> dict[str, dict[str, float]]:
    """Figures of pairs of truth and prediction: (H, W) ids, and {id: (category, crowd)} of them."""
    images, annotations, records, outputs = [], [], [], []
    for index, ((truth, names), (found, categories)) in enumerate(pairs):
        segments = []
        label = np.full(SIZE, 255, np.uint8)
        for number, (category, crowd) in names.items():
            mask = truth == number
            label[mask] = {SKY: 1, SEA: 2}.get(category, 0)
            segments.append(
                {
                    "id": number,
                    "category_id": category,
                    "iscrowd": crowd,
                    "area": int(mask.sum()),
                }
            )
        for folder, pixels in (("panoptic", segment_picture(truth)), ("stuff", label)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.jpg"})
        annotations.append(
            {"image_id": index, "file_name": f"{index}.png", "segments_info": segments}
        )
        records.append(
            {
                "file_name": f"{index}.jpg",
                "image_id": index,
                "sem_seg_file_name": str(root / "stuff" / f"{index}.png"),
            }
        )
        numbers = {CAR: (True, 0), CAT: (True, 1), SKY: (False, 1), SEA: (False, 2)}
        segments = [
            {"id": number, "isthing": numbers[c][0], "category_id": numbers[c][1]}
            for number, c in categories.items()
        ]
        semantic = np.zeros(SIZE, np.int64)
        for number, category in categories.items():
            semantic[found == number] = {SKY: 1, SEA: 2}.get(category, 0)
        outputs.append(
            {
                "panoptic_seg": (torch.from_numpy(found.astype(np.int32)), segments),
                "sem_seg": torch.from_numpy(semantic),
            }
        )
    categories = [
        {"id": c, "name": str(c), "isthing": int(c in (CAR, CAT))} for c in (CAR, CAT, SKY, SEA)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "panoptic.json").write_text(json.dumps(content))
    evaluators = DatasetEvaluators(
        [
            SemSegEvaluator(NAME, distributed=False, boundary_widths=(), trimap_widths=()),
            PanopticEvaluator(NAME, str(root / "out")),
        ]
    )
    evaluators.reset()
    evaluators.process(records, outputs)
    return evaluators.evaluate()


def by_definition(pairs: list[tuple[Any, Any]], category: int) -> tuple[float, float, float]:
    """PQ, SQ and RQ of one category, in percent; void and crowds as Sec. 4.1 and 4.2 have them."""
    ious, missed, wrong = [], 0, 0
    for (truth, names), (found, categories) in pairs:
        void = ~np.isin(truth, list(names))
        crowd = np.isin(truth, [k for k, (c, crowd) in names.items() if crowd and c == category])
        targets = [truth == k for k, (c, crowd) in names.items() if c == category and not crowd]
        predictions = [found == k for k, c in categories.items() if c == category]
        matched_predictions = set()
        for target in targets:
            hits = []
            for index, mask in enumerate(predictions):
                iou = (target & mask).sum() / ((target | mask) & ~(mask & void)).sum()
                if iou > 0.5:
                    hits.append((iou, index))
            missed += not hits
            for iou, index in hits:
                ious.append(iou)
                matched_predictions.add(index)
        for index, mask in enumerate(predictions):
            if index not in matched_predictions:
                wrong += (mask & (void | crowd)).sum() / mask.sum() <= 0.5
    if not ious:
        return 0.0, 0.0, 0.0
    quality = sum(ious) / (len(ious) + missed / 2 + wrong / 2)
    recognition = len(ious) / (len(ious) + missed / 2 + wrong / 2)
    return 100 * quality, 100 * sum(ious) / len(ious), 100 * recognition


def halves() -> np.ndarray:
    truth = np.full(SIZE, 1, np.uint32)
    truth[4:] = 2
    return truth


def test_perfect(root: Path) -> None:
    truth = halves()
    truth[2:4, 2:6] = 300_000
    names = {1: (SKY, 0), 2: (SEA, 0), 300_000: (CAR, 0)}
    found = np.where(truth == 300_000, 9, truth)
    results = evaluate(root, [((truth, names), (found, {1: SKY, 2: SEA, 9: CAR}))])
    assert set(results) == {"sem_seg", "panoptic_seg"}
    assert set(results["panoptic_seg"].values()) == {100.0}
    assert results["sem_seg"]["mIoU"] == 100.0
    assert (root / "out" / "predictions.json").is_file()


def test_figures_by_hand(root: Path) -> None:
    """Sky 30 of 40 pixels, sea 40 of 50; one car of two found with IoU 6 / 8, a cat that is none.

    Car: 0.75 / (1 + 1/2) = 0.5, SQ 0.75, RQ 2/3. The cat counts as a class with PQ 0.
    """
    truth = halves()
    truth[0, :2], truth[0, 2:4], truth[1, :4] = 11, 11, 11  # 8 pixels
    truth[7, 6:] = 12
    names = {1: (SKY, 0), 2: (SEA, 0), 11: (CAR, 0), 12: (CAR, 0)}
    found = np.zeros(SIZE, np.uint32)
    found[truth == 1] = 1
    found[truth == 2] = 2
    found[0, :3], found[1, :3] = 5, 5  # 6 of the car's 8 pixels
    found[7, 6:] = 6  # a car taken for a cat
    pairs = [((truth, names), (found, {1: SKY, 2: SEA, 5: CAR, 6: CAT}))]
    figures = evaluate(root, pairs)["panoptic_seg"]
    assert figures["PQ_st"] == figures["SQ_st"] == figures["RQ_st"] == pytest.approx(100)
    assert figures["PQ_th"] == pytest.approx((50 + 0) / 2)
    assert figures["SQ_th"] == pytest.approx((75 + 0) / 2)
    assert figures["RQ_th"] == pytest.approx((200 / 3 + 0) / 2)
    assert figures["PQ"] == pytest.approx((50 + 0 + 100 + 100) / 4)


def test_void_and_crowds_are_forgiven(root: Path) -> None:
    truth = halves()
    truth[0] = 0  # void: not counted in the sky's union
    truth[5:7, :4] = 20
    truth[3, :3] = 21
    names = {1: (SKY, 0), 2: (SEA, 0), 20: (CAR, 1), 21: (CAR, 0)}
    found = halves()
    found[5:7, :2] = 3  # inside the crowd: no false positive
    found[5:7, 2:4] = 0
    found[0, :4] = 4  # inside void: neither
    found[3, :3] = 5
    pairs = [((truth, names), (found, {1: SKY, 2: SEA, 3: CAR, 4: CAT, 5: CAR}))]
    figures = evaluate(root, pairs)["panoptic_seg"]
    assert figures["PQ_st"] == pytest.approx(100)
    assert figures["PQ_th"] == pytest.approx(100)  # of cars; cats have no figure at all
    found[5:7, :2] = 2  # outside of both, the same segment is one
    found[4, :2] = 3
    figures = evaluate(root, pairs)["panoptic_seg"]
    assert figures["PQ_th"] == pytest.approx(100 / 1.5)


@pytest.mark.parametrize("crowds", [False, True])
def test_random_maps_agree_with_the_definition(root: Path, crowds: bool) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(6):
        truth = halves()
        names = {1: (SKY, 0), 2: (SEA, 0)}
        for number in range(3, 7):
            top, left = rng.integers(0, 5, 2)
            truth[top : top + 3, left : left + 4] = number
            names[number] = (int(rng.choice([CAR, CAT])), 0)
        names = {k: v for k, v in names.items() if (truth == k).any()}
        found = np.roll(truth, rng.integers(0, 2, 2), axis=(0, 1))
        categories = {k: names[k][0] for k in names}
        first = next(k for k in names if k > 2)
        categories[first] = int(rng.choice([CAR, CAT]))
        truth[rng.random(SIZE) < 0.1] = 0
        names = {k: v for k, v in names.items() if (truth == k).any()}
        if crowds:  # one of the picture
            number = rng.choice([k for k in names if k > 2])
            names[int(number)] = (names[number][0], 1)
        pairs.append(((truth, names), (found, categories)))
    figures = evaluate(root, pairs)["panoptic_seg"]
    table = np.array([by_definition(pairs, c) for c in (CAR, CAT, SKY, SEA)])
    assert 10 < table[:, 0].min() and table[:2, 0].max() < 100
    for suffix, rows in (("", slice(None)), ("_th", slice(0, 2)), ("_st", slice(2, 4))):
        for column, name in enumerate(("PQ", "SQ", "RQ")):
            expected = table[rows, column].mean()
            assert figures[name + suffix] == pytest.approx(expected), name + suffix


@pytest.mark.parametrize("stuff", [True, False])
def test_a_kind_that_nothing_has_is_left_out(root: Path, stuff: bool) -> None:
    first, second = (SKY, SEA) if stuff else (CAR, CAT)
    found = halves()
    found[3] = 0
    pairs = [((halves(), {1: (first, 0), 2: (second, 0)}), (found, {1: first, 2: second}))]
    figures = evaluate(root, pairs)["panoptic_seg"]
    there, absent = ("_st", "_th") if stuff else ("_th", "_st")
    assert figures["PQ"] == figures[f"PQ{there}"] == pytest.approx((75 + 100) / 2)
    assert all(np.isnan(figures[kind + absent]) for kind in ("PQ", "SQ", "RQ"))


def test_a_picture_without_prediction_is_named(root: Path) -> None:
    pairs = [((halves(), {1: (SKY, 0), 2: (CAR, 0)}), (halves(), {1: SKY, 2: CAR}))]
    evaluate(root, pairs)
    evaluator = PanopticEvaluator(NAME)
    evaluator.reset()
    with pytest.raises(ValueError, match="no prediction for 1 images, such as 0"):
        evaluator.evaluate()


def test_panoptic_data_sets_are_known() -> None:
    from ifa_d2.engine.build import is_panoptic

    names = [f"coco_2017_{part}_panoptic_separated" for part in ("train", "val")]
    assert all(map(is_panoptic, [*names, "cityscapes_fine_panoptic_val_separated"]))
    assert not is_panoptic("shapes_val")
    assert "shapes_val" in DatasetCatalog


def test_missing_pictures_are_named(root: Path) -> None:
    """Where the evaluation would have ended the process."""
    truth = halves()
    pairs = [((truth, {1: (SKY, 0), 2: (CAR, 0)}), (truth, {1: SKY, 2: CAR}))]
    evaluate(root, pairs)
    evaluator = PanopticEvaluator(NAME)
    evaluator.reset()
    shutil.rmtree(root / "panoptic")
    with pytest.raises(FileNotFoundError, match=r"panoptic_root '.*panoptic' of the data set is"):
        evaluator.evaluate()
