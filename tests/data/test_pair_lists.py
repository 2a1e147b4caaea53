"""Lists of a data set's pictures: VOC's names and tables of pairs."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from ifa_d2.data import SemSegMapper, register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from tests.data.readers import read_everywhere

CLASSES = ("background", "aeroplane", "bicycle")
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192]


def voc(root: Path, names: str) -> dict:
    """VOC's tree: three JPEGs, palette labels of two, and a list; the arguments of its folders."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for index in range(3):
        Image.new("RGB", (3, 2), (index, 0, 0)).save(root / f"JPEGImages/2007_00{index}.jpg")
    for index in range(2):
        label = np.array([[index, 1, 255], [2, 0, 0]], np.uint8)
        image = Image.fromarray(label, mode="P")
        image.putpalette(PALETTE)
        image.save(root / f"SegmentationClass/2007_00{index}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text(names)
    return {
        "image_root": root / "JPEGImages",
        "label_root": root / "SegmentationClass",
        "list_file": root / "ImageSets/Segmentation/train.txt",
    }


def test_voc_names_its_pictures_and_has_indices_under_a_palette(tmp_path: Path) -> None:
    register_sem_seg_folder("mine", classes=CLASSES, **voc(tmp_path, "2007_001\n\n"))
    (record,) = DatasetCatalog.get("mine")
    assert record["image_id"] == "2007_001"
    read_everywhere([[1, 1, 255], [2, 0, 0]])


def test_names_may_have_suffixes_and_keep_their_order(tmp_path: Path) -> None:
    options = voc(tmp_path, "2007_001.JPG\r\n2007_000\r\n")
    register_sem_seg_folder("mine", classes=CLASSES, **options)
    assert [one["image_id"] for one in DatasetCatalog.get("mine")] == ["2007_000", "2007_001"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("2007_000\n2007_009\n", r"names '2007_009' in line 2, but there is no such image"),
        ("2007_000\n2007_001\n2007_000.jpg", r"names '2007_000.jpg' in line 1 and again in line 3"),
        ("\n", "names no image"),
        ("2007_002\n", r"1 image file\(s\) without label: .*2007_002.jpg"),
    ],
)
def test_faults_of_lists_of_names(tmp_path: Path, names: str, said: str) -> None:
    register_sem_seg_folder("mine", classes=CLASSES, **voc(tmp_path, names))
    with pytest.raises(ValueError, match=said):
        DatasetCatalog.get("mine")


def test_a_listed_picture_without_label_is_a_fault_of_the_check(tmp_path: Path) -> None:
    register_sem_seg_folder("mine", classes=CLASSES, **voc(tmp_path, "2007_000\n2007_002\n"))
    (fault,) = check_dataset("mine").faults
    assert fault.problem == "has no label" and fault.file.endswith("2007_002.jpg")


def table(root: Path, text: str) -> dict:
    """Two pictures and labels whose names have nothing in common, and a table."""
    for index, name in enumerate(("one", "two")):
        image, label = root / "pictures" / f"{name}.png", root / "drawn" / f"m{index}.png"
        for path, pixels in ((image, np.zeros((1, 3, 3))), (label, [[index, 1, 2]])):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.array(pixels, np.uint8)).save(path)
    (root / "pairs.csv").write_text(text, encoding="utf-8")
    return {"image_root": root, "label_root": root, "list_file": root / "pairs.csv"}


def test_a_table_pairs_what_has_other_names(tmp_path: Path) -> None:
    text = "\ufeffsplit, label, image\ntrain, drawn/m1.png, pictures/two.png\n"
    register_sem_seg_folder("mine", classes=CLASSES, **table(tmp_path, text))
    (record,) = DatasetCatalog.get("mine")
    assert record["image_id"] == "pictures/two"
    read_everywhere([[1, 1, 2]])


def test_a_table_may_have_whole_paths_and_several_pictures_of_one_label(tmp_path: Path) -> None:
    one, two = (tmp_path / "pictures" / f"{name}.png" for name in ("one", "two"))
    text = f'image,label\n"{two}",m0.png\n{one},m0.png\n'
    options = table(tmp_path, text) | {"label_root": tmp_path / "drawn"}
    register_sem_seg_folder("mine", classes=CLASSES, **options)
    records = DatasetCatalog.get("mine")
    assert [record["file_name"] for record in records] == [str(one), str(two)]
    mapper = SemSegMapper(is_train=True)
    assert [mapper(one)["sem_seg"].tolist() for one in records] == [[[0, 1, 2]]] * 2


def test_a_table_of_images_alone(tmp_path: Path) -> None:
    options = table(tmp_path, "image\npictures/one.png\n") | {"label_root": None}
    register_sem_seg_folder("mine", classes=CLASSES, **options)
    (record,) = DatasetCatalog.get("mine")
    assert "sem_seg_file_name" not in record and (record["height"], record["width"]) == (1, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image;label\na;b\n", r"no column 'image': .*columns image and label, got image;label"),
        ("", "no column 'image': .*got nothing"),
        ("image,label\n", "has no line below"),
        ("image,label\npictures/one.png\n", "line 2: the column 'label' is empty"),
        ("image,label\npictures/no.png,drawn/m0.png\n", "line 2: there is no image '.*no.png'"),
        (
            "image,label\npictures/one.png,drawn/m0.png\npictures/one.png,drawn/m1.png\n",
            "line 3: the image 'pictures/one.png' was in a line before",
        ),
    ],
)
def test_faults_of_tables(tmp_path: Path, text: str, said: str) -> None:
    register_sem_seg_folder("mine", classes=CLASSES, **table(tmp_path, text))
    with pytest.raises(ValueError, match=f"table '.*pairs.csv'.*{said}"):
        DatasetCatalog.get("mine")


def test_lists_that_are_none(tmp_path: Path) -> None:
    options = table(tmp_path, "")
    with pytest.raises(ValueError, match=r"list_file must end in .txt or .csv, got 'pairs.xls'"):
        register_sem_seg_folder("mine", classes=CLASSES, **options | {"list_file": "pairs.xls"})
    (tmp_path / "pairs.csv").write_bytes("image,label\nü,ü\n".encode("latin-1"))
    register_sem_seg_folder("mine", classes=CLASSES, **options)
    with pytest.raises(ValueError, match=r"pairs.csv' is not UTF-8: "):
        DatasetCatalog.get("mine")
    (tmp_path / "pairs.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"pairs\.csv"):
        DatasetCatalog.get("mine")
