"""Cityscapes and ADE20K under Detectron2's names."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic
from PIL import Image

from ifa_d2.data import SemSegMapper
from ifa_d2.data.preparation import PREPARATIONS, prepare
from tests.data import miniatures

CITYSCAPES, ADE20K = "cityscapes_fine_sem_seg_train", "ade20k_sem_seg_train"
VAL, TEST = "cityscapes_fine_sem_seg_val", "cityscapes_fine_sem_seg_test"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both data sets, prepared, which is chosen after the import."""
    miniatures.make_cityscapes(tmp_path)
    miniatures.make_ade20k(tmp_path)
    for name in ("cityscapes", "ade20k"):
        prepare(PREPARATIONS[name][0], tmp_path, allow_partial=True)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def test_records_are_detectron2s_and_say_their_classes(root: Path) -> None:
    base = root / "cityscapes"
    images, labels = base / "leftImg8bit" / "train", base / "gtFine" / "train"
    listed = {CITYSCAPES: (load_cityscapes_semantic(str(images), str(labels)), 19)}
    base = root / "ADEChallengeData2016"
    images, labels = base / "images" / "training", base / "annotations_detectron2" / "training"
    listed[ADE20K] = (load_sem_seg(str(labels), str(images)), 150)
    for name, (expected, num_classes) in listed.items():
        records = DatasetCatalog.get(name)
        assert len(records) == 4
        assert [r["file_name"] for r in records] == sorted(r["file_name"] for r in expected)
        for record in sorted(expected, key=lambda r: r["file_name"]):
            record.update(ignore_label=255, num_classes=num_classes)
            assert any(record.items() <= other.items() for other in records)


def test_hidden_files_do_not_count(root: Path) -> None:
    base = root / "ADEChallengeData2016"
    images, labels = base / "images" / "training", base / "annotations_detectron2" / "training"
    image, label = sorted(images.iterdir())[0], sorted(labels.iterdir())[0]
    before = DatasetCatalog.get(ADE20K)
    shutil.copy(image, images / f"._{image.name}")
    assert DatasetCatalog.get(ADE20K) == before
    shutil.copy(label, labels / f"._{label.name}")
    assert DatasetCatalog.get(ADE20K) == before


@pytest.mark.parametrize(("name", "num_classes"), [(CITYSCAPES, 19), (ADE20K, 150)])
def test_metadata(name: str, num_classes: int) -> None:
    metadata = MetadataCatalog.get(name)
    assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == num_classes
    assert metadata.ignore_label == 255


def test_cityscapes_classes_are_the_training_ids() -> None:
    metadata = MetadataCatalog.get(CITYSCAPES)
    labels = [trainId2label[index] for index in range(19)]
    assert metadata.stuff_classes == [label.name for label in labels]
    assert metadata.stuff_colors == [list(label.color) for label in labels]
    assert metadata.evaluator_type == "cityscapes_sem_seg"


def test_ade20k_has_its_published_colours() -> None:
    metadata = MetadataCatalog.get(ADE20K)
    colors = dict(zip(metadata.stuff_classes, metadata.stuff_colors, strict=True))
    assert colors["wall"] == [120, 120, 120] and colors["sky"] == [6, 230, 230]
    assert colors["person"] == [150, 5, 61] and colors["flag"] == [92, 0, 255]
    # The list has one colour twice.
    assert len({tuple(color) for color in colors.values()}) == 149
    assert colors["road, route"] == colors["skyscraper"] == [140, 140, 140]


@pytest.mark.parametrize(
    ("name", "key", "folder"),
    [
        (CITYSCAPES, "image_dir", "cityscapes/leftImg8bit/train"),
        (CITYSCAPES, "gt_dir", "cityscapes/gtFine/train"),
        (ADE20K, "sem_seg_root", "ADEChallengeData2016/annotations_detectron2/training"),
    ],
)
def test_metadata_has_the_present_folders(root: Path, name: str, key: str, folder: str) -> None:
    DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).get(key) == str(root / folder)


@pytest.mark.parametrize(("name", "wrong"), [(CITYSCAPES, 19), (ADE20K, 150)])
def test_ids_are_checked_when_mapped(root: Path, name: str, wrong: int) -> None:
    record = DatasetCatalog.get(name)[1]
    path = record["sem_seg_file_name"]
    label = np.array(Image.open(path))
    sample = SemSegMapper(is_train=True)(record)
    np.testing.assert_array_equal(sample["sem_seg"], label)
    label[3, 4] = wrong
    Image.fromarray(label).save(path)
    with pytest.raises(ValueError, match=rf"{path}.* holds {wrong}"):
        SemSegMapper(is_train=True)(record)


@pytest.mark.parametrize("name", [CITYSCAPES, ADE20K])
def test_a_missing_label_is_an_error_with_its_image(root: Path, name: str) -> None:
    record = DatasetCatalog.get(name)[2]
    Path(record["sem_seg_file_name"]).unlink()
    with pytest.raises(ValueError) as caught:
        DatasetCatalog.get(name)
    message = str(caught.value)
    assert f"1 image file(s) without label: {record['file_name']}. Run `python tools/" in message
    assert message.endswith("ROOT.")


@pytest.mark.parametrize("name", [CITYSCAPES, ADE20K])
def test_labels_that_are_all_missing_say_how_to_get_them(root: Path, name: str) -> None:
    """As where the archive was unpacked, but nothing prepared."""
    for record in DatasetCatalog.get(name):
        Path(record["sem_seg_file_name"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no label file .*\. Run .*prepare_datasets\.py"):
        DatasetCatalog.get(name)


def test_cityscapes_is_listed_without_polygons_and_instances(root: Path) -> None:
    records = DatasetCatalog.get(CITYSCAPES)
    for kind in ("polygons.json", "instanceIds.png", "labelIds.png"):
        for path in root.rglob(f"*_{kind}"):
            path.unlink()
    assert DatasetCatalog.get(CITYSCAPES) == records and len(records) == 4


@pytest.mark.parametrize("dummies", [0, 1, 3])
def test_cityscapes_test_is_its_images_whatever_labels_are_there(root: Path, dummies: int) -> None:
    stems = miniatures.make_cityscapes_test(root)
    for stem in stems[:dummies]:  # published ones, which are empty
        folder = root / "cityscapes" / "gtFine" / "test" / stem.split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        name = stem.replace("leftImg8bit", "gtFine_labelTrainIds.png")
        Image.new("L", miniatures.SIZE[::-1], 255).save(folder / name)
    records = DatasetCatalog.get(TEST)
    assert [Path(record["file_name"]).stem for record in records] == stems
    assert [record["image_id"] for record in records] == [
        f"{stem.split('_')[0]}/{stem.removesuffix('_leftImg8bit')}" for stem in stems
    ]
    for record in records:
        assert "sem_seg_file_name" not in record
        assert (record["height"], record["width"]) == miniatures.SIZE
        assert (record["ignore_label"], record["num_classes"]) == (255, 19)


def test_cityscapes_test_is_mapped_for_testing_alone(root: Path) -> None:
    miniatures.make_cityscapes_test(root)
    record = DatasetCatalog.get(TEST)[0]
    assert "sem_seg" not in SemSegMapper(is_train=False)(record)
    with pytest.raises(ValueError, match="has no sem_seg_file_name to train on"):
        SemSegMapper(is_train=True)(record)


def test_metadata_of_cityscapes_test_is_without_labels(root: Path) -> None:
    miniatures.make_cityscapes_test(root)
    val, test = ((DatasetCatalog.get(n), vars(MetadataCatalog.get(n)))[1] for n in (VAL, TEST))
    different = {key for key in val if val[key] != test.get(key)}
    assert different == {"name", "image_dir", "image_root", "gt_dir", "sem_seg_root"}
    images = str(root / "cityscapes" / "leftImg8bit" / "test")
    assert test["image_dir"] == test["image_root"] == images
    assert not {"gt_dir", "sem_seg_root"} & set(test)


def test_a_test_set_that_is_not_there_says_what_to_unpack(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit/test' .*leftImg8bit_trainvaltest"):
        DatasetCatalog.get(TEST)


@pytest.mark.parametrize("name", [CITYSCAPES, ADE20K, "pascal_context_59_val", "camvid_train"])
def test_a_data_set_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}.*tools/prepare_datasets.py"):
        DatasetCatalog.get(name)
