"""Panoptic labels of the drawn scenes: what they say, as files, and as a data set."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from panoptic_shapes import (
    IGNORED,
    LABEL_DIVISOR,
    MIN_AREA,
    THING_IDS,
    panoptic_label,
    prepare_panoptic_shapes,
    register_panoptic_shapes,
)
from PIL import Image

from ifa_d2.data.builtin import SPLITS
from ifa_d2.data.shapes import CLASSES, SHAPES_COUNTS, SHAPES_SIZE, make_scene
from ifa_d2.engine.build import build_data_set_evaluators

COUNTS = {"train": 2, "val": 2}


@pytest.mark.parametrize("index", range(3))
def test_segments_are_the_classes_cut_into_things(index: int) -> None:
    scene = make_scene(2022, 0, index)
    ids, segments = panoptic_label(scene, *SHAPES_SIZE)
    label, things = scene.label(*SHAPES_SIZE), scene.things(*SHAPES_SIZE)
    assert {CLASSES[one] for one in THING_IDS} == {"car", "person", "bicycle"}
    assert len({one["id"] for one in segments}) == len(segments)
    assert set(np.unique(ids)) - {0} == {one["id"] for one in segments}
    for one in segments:
        mask = ids == one["id"]
        assert (label[mask] == one["category_id"]).all() and mask.sum() == one["area"]
        assert one["id"] - 1 == one["category_id"] * LABEL_DIVISOR + things[mask][0]
        assert len(np.unique(things[mask])) == 1
        if one["category_id"] in THING_IDS:
            assert one["area"] >= MIN_AREA and things[mask][0] > 0
        else:  # one segment a stuff class
            assert (mask == (label == one["category_id"])).all()
    # Void is what shows little of a thing.
    assert np.isin(label[ids == 0], THING_IDS).all() and (ids == 0).mean() < 0.01
    numbers, areas = np.unique(ids[np.isin(label, THING_IDS)], return_counts=True)
    assert len(numbers) > 2 and areas.max() < 0.1 * ids.size


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split, count in COUNTS.items():
        monkeypatch.setitem(SHAPES_COUNTS, split, count)
    yield tmp_path
    for split in SPLITS:
        for key in ("image_root", "sem_seg_root", "panoptic_root", "panoptic_json"):
            vars(MetadataCatalog.get(f"shapes_panoptic_{split}")).pop(key, None)


def test_records_and_files(root: Path) -> None:
    register_panoptic_shapes()  # once more
    records = DatasetCatalog.get("shapes_panoptic_val")
    assert [one["image_id"] for one in records] == ["0000", "0001"]
    for index, one in enumerate(records):
        scene = make_scene(2022, 1, index)
        with Image.open(one["file_name"]) as image:
            np.testing.assert_array_equal(np.asarray(image), scene.image(*SHAPES_SIZE))
        with Image.open(one["sem_seg_file_name"]) as image:
            np.testing.assert_array_equal(np.asarray(image), scene.label(*SHAPES_SIZE))
        ids, segments = panoptic_label(scene, *SHAPES_SIZE)
        with Image.open(one["pan_seg_file_name"]) as image:
            red, green, blue = np.asarray(image).astype(int).transpose(2, 0, 1)
        np.testing.assert_array_equal(red + 256 * green + 65536 * blue, ids)
        assert one["segments_info"] == segments
        assert (one["height"], one["width"]) == SHAPES_SIZE
    names = {path.name for path in root.iterdir() if not path.name.endswith(".lock")}
    assert names == {"shapes", "shapes_panoptic"}


def test_the_labels_themselves_have_a_quality_of_100(root: Path) -> None:
    records = DatasetCatalog.get("shapes_panoptic_val")
    evaluator = build_data_set_evaluators("shapes_panoptic_val", str(root / "out"))[1]
    evaluator.reset()
    for index, one in enumerate(records):
        ids, _ = panoptic_label(make_scene(2022, 1, index), *SHAPES_SIZE)
        evaluator.process([one], [{"panoptic_seg": (torch.from_numpy(ids - 1), None)}])
    found = evaluator.evaluate()["panoptic_seg"]
    assert {found[name] for name in ("PQ", "SQ_th", "RQ_st")} == {100.0}
    assert MetadataCatalog.get("shapes_panoptic_val").ignore_label == IGNORED


def test_it_is_drawn_once_and_replaced_when_it_changes(tmp_path: Path) -> None:
    folder = prepare_panoptic_shapes(tmp_path / "panoptic", {"val": 1})
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    prepare_panoptic_shapes(folder, {"val": 1})
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    prepare_panoptic_shapes(folder, {"val": 2})
    assert len(json.loads((folder / "val.json").read_text())["images"]) == 2
    assert not list(tmp_path.glob(".panoptic-*"))


def test_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"panoptic' exists but holds no shapes_panoptic.json"):
        prepare_panoptic_shapes(tmp_path / "panoptic", {"val": 1})
    assert (tmp_path / "panoptic" / "mine.txt").exists()
