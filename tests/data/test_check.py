"""What a check says of a data set."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.data.catalog import sem_seg_names
from ifa_d2.data.check import DatasetReport, check_dataset

CLASSES = ("ground", "thing", "other")


def register(root: Path) -> None:
    register_sem_seg_folder("mine", root / "images", root / "labels", CLASSES, ignore_label=9)


@pytest.fixture
def counted(write, tmp_path: Path) -> DatasetReport:
    """The report on three labels: of two classes, without a class, and of one class."""
    write("a", (2, 4), label=np.array([[0, 0, 0, 9], [1, 1, 0, 9]], np.uint8))
    write("b", (2, 4), label=np.full((2, 4), 9, np.uint8))
    write("c", (1, 2), label=np.array([[0, 0]], np.uint8))
    register(tmp_path)
    return check_dataset("mine")


def test_frequencies(counted: DatasetReport) -> None:
    assert [c.name for c in counted.classes] == list(CLASSES)
    assert [c.pixels for c in counted.classes] == [6, 2, 0]
    assert [c.share for c in counted.classes] == [0.75, 0.25, 0]
    assert [c.images for c in counted.classes] == [2, 1, 0]


def test_ignored_pixels(counted: DatasetReport, tmp_path: Path) -> None:
    assert counted.ignored_share == pytest.approx(10 / 18)
    assert counted.only_ignored == (str(tmp_path / "labels" / "b.png"),)


def test_report_as_text(counted: DatasetReport, tmp_path: Path) -> None:
    text = counted.to_text()
    assert "in no image: other" in text
    assert f"nothing but ignore: {tmp_path / 'labels' / 'b.png'}" in text


def test_report_as_json(counted: DatasetReport) -> None:
    content = json.loads(json.dumps(counted.to_dict()))
    assert content["ok"] and content["images"] == 3
    assert content["classes"][1]["pixels"] == 2


def test_processes_change_nothing(counted: DatasetReport) -> None:
    assert check_dataset("mine", workers=2) == counted


def test_every_bad_file_is_named(write, tmp_path: Path) -> None:
    for index in range(9):
        write(str(index), (20, 30))
    images, labels = tmp_path / "images", tmp_path / "labels"
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:900])
    (labels / "1.png").write_bytes(b"")
    Image.new("L", (20, 30)).save(labels / "2.png")
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(labels / "3.png")
    Image.new("RGB", (30, 20)).save(labels / "4.png")
    (images / "5.png").unlink()
    (labels / "6.png").unlink()
    register(tmp_path)
    report = check_dataset("mine")
    assert not report.ok and report.images == 9
    problems = {Path(fault.file): fault.problem for fault in report.faults}
    expected = {
        images / "0.png": "cannot be read",
        labels / "1.png": "cannot read the label",
        labels / "2.png": "has (height, width) (30, 20), but its image",
        labels / "3.png": "holds 7: neither one of 3 classes nor ignore",
        labels / "4.png": "holds colours",
        labels / "5.png": "has no image",
        images / "6.png": "has no label",
    }
    assert problems.keys() == expected.keys()
    for path, problem in expected.items():
        assert problem in problems[path]
        (line,) = (x for x in report.to_text().splitlines() if x.startswith(f"bad: {path}: "))
        assert line.count(str(path)) == 1
    assert sum(c.pixels for c in report.classes) == 2 * 20 * 30  # of the two good ones


def test_pipes_are_not_waited_for(write, tmp_path: Path) -> None:
    files = [write(name)[kind] for kind, name in enumerate(("image", "label"))]
    write("whole")
    register(tmp_path)
    for path in files:
        path.unlink()
        os.mkfifo(path)
    report = check_dataset("mine")
    assert {fault.file for fault in report.faults} == {str(path) for path in files}
    assert all("no regular file" in fault.problem for fault in report.faults)
    with pytest.raises(ValueError, match=rf"image '{files[0]}': it is no regular file"):
        DatasetCatalog.get("mine")


def test_data_sets_of_others(write, tmp_path: Path) -> None:
    image, label = write("a", (4, 6), num_classes=2)
    records = [{"file_name": str(image), "sem_seg_file_name": str(label)}]
    DatasetCatalog.register("theirs", lambda: records)
    with pytest.raises(ValueError, match="'theirs' has no stuff_classes"):
        check_dataset("theirs")
    MetadataCatalog.get("theirs").stuff_classes = list(CLASSES)
    assert check_dataset("theirs").ok
    records[0].update(height=4, width=5)
    (fault,) = check_dataset("theirs").faults
    assert fault.file == str(image) and "its record says (4, 5)" in fault.problem
    records.append({"file_name": str(image)})
    with pytest.raises(ValueError, match=rf"lists '{image}' without a label"):
        check_dataset("theirs")


@pytest.mark.parametrize("theirs", [False, True])
def test_a_data_set_without_labels(write, tmp_path: Path, theirs: bool) -> None:
    for name in "ab":
        image, _ = write(name, (20, 30))
    folders = tmp_path / "images", None
    if theirs:
        paths = sorted((tmp_path / "images").iterdir())
        DatasetCatalog.register("mine", lambda: [{"file_name": str(path)} for path in paths])
        MetadataCatalog.get("mine").stuff_classes = list(CLASSES)
    else:
        register_sem_seg_folder("mine", *folders, CLASSES)
    report = check_dataset("mine")
    assert report.ok and report.to_text() == "mine: 2 images without labels, 0 bad files"
    assert (report.has_labels, report.only_ignored) == (False, ())
    image.write_bytes(image.read_bytes()[:900])
    report = check_dataset("mine")
    (fault,) = report.faults
    assert not report.ok and fault.file == str(image)
    assert report.to_text().splitlines() == [
        f"bad: {image}: {fault.problem}",
        "mine: 2 images without labels, 1 bad files",
    ]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("citiscapes_train", "cityscapes_fine_sem_seg_train"),
        ("cityscapes_test", "cityscapes_fine_sem_seg_test"),
        ("ADE20K_val", "ade20k_sem_seg_val"),
        ("camvid_trian", "camvid_train"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"name must be .*, got '{name}'") as caught:
        check_dataset(name)
    names = str(caught.value).partition("the nearest are ")[2].split(", ")
    assert names[0] == nearest and len(names) == 5
    assert all(MetadataCatalog.get(known).stuff_classes for known in names)


def test_data_sets_of_instances_are_not_offered() -> None:
    names = sem_seg_names()
    assert {"shapes_train", "cityscapes_fine_panoptic_val_separated"} <= set(names)
    assert not [name for name in names if "instance" in name or "keypoints" in name]


def test_workers_are_looked_at_before_the_files(write, tmp_path: Path) -> None:
    register(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        check_dataset("mine", workers=0)
