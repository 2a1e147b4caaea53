"""Panoptic data sets from their published files to what a model is trained with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation.evalPanopticSemanticLabeling import rgb2id
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from ifa_d2.data import PanopticInstanceMapper
from ifa_d2.data.panoptic_mapper import segment_ids, segment_picture
from ifa_d2.data.preparation import PREPARATIONS, prepare
from tests.data.panoptic_miniatures import (
    SIZE,
    coco_at,
    make_cityscapes_panoptic,
    make_coco_panoptic,
)

CITYSCAPES = "cityscapes_fine_panoptic_train_separated"
STREET = ["road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"]
STREET += ["traffic sign", "vegetation", "terrain", "sky"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("panoptic")
    make_cityscapes_panoptic(root)
    make_coco_panoptic(root)
    with pytest.MonkeyPatch.context() as patch, coco_at(root):
        patch.setenv("DETECTRON2_DATASETS", str(root))
        yield root


def _pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_cityscapes_classes() -> None:
    metadata = MetadataCatalog.get(CITYSCAPES)
    assert metadata.stuff_classes == ["things", *STREET]
    assert metadata.thing_classes[:3] == ["person", "rider", "car"]
    assert metadata.thing_dataset_id_to_contiguous_id[33] == 7  # bicycle
    assert metadata.stuff_dataset_id_to_contiguous_id[23] == 11  # sky
    assert len(metadata.stuff_colors) == 12 and len(metadata.thing_colors) == 8


def test_cityscapes_labels_are_the_training_ids_with_things_as_one(root: Path) -> None:
    table = np.r_[np.arange(1, 12), np.zeros(8), np.full(237, 255)].astype(np.uint8)
    records = DatasetCatalog.get(CITYSCAPES)
    assert len(records) == 3
    for record in records:
        train_ids = record["file_name"].replace("leftImg8bit", "gtFine").split(".")[0]
        expected = table[_pixels(f"{train_ids}_labelTrainIds.png")]
        found = _pixels(record["sem_seg_file_name"])
        assert np.array_equal(found, expected)
        assert {0, 1, 11, 255} <= set(np.unique(found))


def test_cityscapes_instances_are_the_published_ones(root: Path) -> None:
    mapper = PanopticInstanceMapper(
        is_train=True,
        augmentations=[],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    for record in DatasetCatalog.get(CITYSCAPES):
        sample = mapper(record)
        ids = _pixels(
            record["file_name"].replace("leftImg8bit", "gtFine").split(".")[0] + "_instanceIds.png"
        )
        cars = [ids == value for value in np.unique(ids) if value // 1000 == 26]
        instances = sample["instances"]
        assert instances.gt_classes.tolist() == [2] * len(cars) == [2]  # a group is no instance
        assert np.array_equal(instances.gt_masks.tensor.numpy(), cars)
        rows, columns = np.nonzero(cars[0])
        x0, y0, x1, y1 = instances.gt_boxes.tensor[0].tolist()
        assert (x0, x1) == (columns.min(), columns.max() + 1)
        assert (y0, y1) == (rows.min(), rows.max() + 1)
        assert sample["sem_seg"].shape == SIZE
        assert (sample["sem_seg"].numpy()[cars[0]] == 0).all()
        segments = record["segments_info"]
        assert [s["category_id"] for s in segments if s["isthing"] and not s["iscrowd"]] == [2]
        assert 11 in [s["category_id"] for s in segments if not s["isthing"]]


def test_flipped_instances_follow_the_picture(root: Path) -> None:
    record = DatasetCatalog.get(CITYSCAPES)[0]
    options = {
        "is_train": True,
        "image_format": "BGR",
        "use_instance_mask": True,
        "instance_mask_format": "bitmask",
    }
    plain = PanopticInstanceMapper(augmentations=[], **options)(record)
    flip = [T.RandomFlip(prob=1.0)]
    flipped = PanopticInstanceMapper(augmentations=flip, **options)(record)
    assert (flipped["image"].flip(2) == plain["image"]).all()
    assert (flipped["sem_seg"].flip(1) == plain["sem_seg"]).all()
    masks = flipped["instances"].gt_masks.tensor.flip(2)
    assert (masks == plain["instances"].gt_masks.tensor).all()


def test_coco_labels(root: Path) -> None:
    """Of 54 classes: every thing, a crowd too, is 0; 255 is what has no segment."""
    metadata = MetadataCatalog.get("coco_2017_train_panoptic_separated")
    stuff = metadata.stuff_dataset_id_to_contiguous_id
    for index, record in enumerate(DatasetCatalog.get("coco_2017_train_panoptic_separated")):
        label = _pixels(record["sem_seg_file_name"])
        ids = rgb2id(_pixels(Path(metadata.panoptic_root) / f"{index + 1:012d}.png"))
        assert set(np.unique(label)) == {0, stuff[187], stuff[193], 255}
        assert (label[ids == 0] == 255).all() and (label[ids != 0] != 255).all()
        assert len(record["annotations"]) == 2  # a crowd only in the panoptic file
    things = [label[ids == value] for value in np.unique(ids) if value % 70_000 // 1000 in (1, 3)]
    assert things and all((part == 0).all() for part in things)


def test_segment_ids_are_the_formats_own() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture[0, 0] = (0, 0, 0)
    picture[0, 1] = (255, 255, 255)
    ids = segment_ids(picture)
    assert ids.shape == (5, 7) and ids[0, :2].tolist() == [0, 2**24 - 1]
    assert np.array_equal(ids, rgb2id(picture))
    assert np.array_equal(segment_picture(ids), picture)


def test_mistakes_are_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"coco/panoptic_train2017 +from panoptic_train2017.zip"):
        prepare(PREPARATIONS["coco_panoptic"][0], tmp_path)
    with pytest.raises(ValueError, match="instance_mask_format must be 'bitmask', got 'polygon'"):
        PanopticInstanceMapper(
            is_train=True, augmentations=[], image_format="BGR", use_instance_mask=True
        )
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"prepare_datasets.py cityscapes_panoptic ROOT"):
        DatasetCatalog.get(CITYSCAPES)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    record = DatasetCatalog.get(CITYSCAPES)[0]
    for segment in record["segments_info"]:
        segment["id"] += 1
    mapper = PanopticInstanceMapper(is_train=True, augmentations=[], image_format="BGR")
    with pytest.raises(ValueError, match="has no segment"):
        mapper(record)
