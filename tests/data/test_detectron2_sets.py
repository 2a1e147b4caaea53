"""Cityscapes and ADE20K under Detectron2's names."""

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
            assert record in records


def test_metadata(root: Path) -> None:
    for name, num_classes in ((CITYSCAPES, 19), (ADE20K, 150)):
        DatasetCatalog.get(name)
        metadata = MetadataCatalog.get(name)
        assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == num_classes
        assert metadata.ignore_label == 255
    metadata = MetadataCatalog.get(CITYSCAPES)
    for index in range(19):
        label = trainId2label[index]
        assert (metadata.stuff_classes[index], metadata.stuff_colors[index]) == (
            label.name,
            list(label.color),
        )
    assert metadata.evaluator_type == "cityscapes_sem_seg"
    assert metadata.image_dir == str(root / "cityscapes" / "leftImg8bit" / "train")
    assert metadata.gt_dir == str(root / "cityscapes" / "gtFine" / "train")
    expected = root / "ADEChallengeData2016" / "annotations_detectron2" / "training"
    assert MetadataCatalog.get(ADE20K).sem_seg_root == str(expected)


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
    with pytest.raises(ValueError, match=rf"1 image file.s. without label: {record['file_name']}"):
        DatasetCatalog.get(name)


def test_what_detectron2_rejects_says_how_to_prepare(root: Path) -> None:
    for path in (root / "cityscapes" / "gtFine" / "train").rglob("*_instanceIds.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"not whole: .*prepare_datasets.py cityscapes ROOT"):
        DatasetCatalog.get(CITYSCAPES)
    prepare(PREPARATIONS["cityscapes"][0], root, allow_partial=True)
    assert len(DatasetCatalog.get(CITYSCAPES)) == 4
    for path in root.rglob("*_polygons.json"):
        path.write_text("{")
    with pytest.raises(ValueError, match="not whole"):
        DatasetCatalog.get(CITYSCAPES)


@pytest.mark.parametrize("name", [CITYSCAPES, ADE20K, "pascal_context_59_val", "camvid_train"])
def test_a_data_set_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}.*tools/prepare_datasets.py"):
        DatasetCatalog.get(name)
