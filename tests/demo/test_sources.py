import os
import threading
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import read_picture
from ifa_d2.demo import (
    check_output_name,
    dataset_pictures,
    decode_ahead,
    find_pictures,
    label_pictures,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: a/1.png, a/deep/2.JPG, a/notes.txt, b/1.png, b/1.jpg, empty/."""
    for name in ("a/1.png", "a/deep/2.JPG", "b/1.png", "b/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), 50, np.uint8)).save(path)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_globs_and_folders(folder: Path) -> None:
    found = find_pictures(["b/*.png", "a", "a/1.png"])
    assert [picture.path for picture in found] == ["b/1.png", "a/1.png", "a/deep/2.JPG", "a/1.png"]
    assert [picture.name for picture in found] == ["1", "1-2", "deep/2", "1-3"]
    assert [one.path for one in find_pictures(["**/*.jpg"])] == ["b/1.jpg"]


def test_hidden_files_are_no_pictures(folder: Path) -> None:
    (folder / "a" / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/1-checkpoint.png", "._1.png"):
        (folder / "a" / name).write_bytes((folder / "a" / "1.png").read_bytes())
    assert [one.path for one in find_pictures(["a"])] == ["a/1.png", "a/deep/2.JPG"]


def test_a_broken_link_is_listed_and_cannot_be_read(folder: Path) -> None:
    os.symlink("away.png", "a/broken.png")
    for item in ("a", "a/*.png", "a/broken.png"):
        assert "a/broken.png" in [one.path for one in find_pictures([item])]
    with pytest.raises(FileNotFoundError, match=r"a/broken\.png"):
        read_picture("a/broken.png")


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:  # permissions do not stop the superuser
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="a/deep"):
        find_pictures(["a"])


def test_no_drawing_is_named_as_the_sheet(folder: Path) -> None:
    name = "of sheets"
    records = [{"file_name": f"b/{name}.png"} for name in ("sheet", "other")]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).stuff_classes = ["a"]
    try:
        assert [one.name for one in dataset_pictures(name, 2)] == ["sheet-2", "other"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    os.rename("a/1.png", "a/[1].png")
    assert [one.path for one in find_pictures(["a/[1].png"])] == ["a/[1].png"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("away.png", "there is no file away.png"),
        ("b/*.gif", r"nothing fits b/\*.gif"),
        ("empty", "no pictures in the folder empty"),
    ],
)
def test_nothing_there(folder: Path, item: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_pictures(["a/1.png", item])


def test_labels_belong_to_pictures(folder: Path) -> None:
    pictures = find_pictures(["a"])
    labelled = label_pictures(pictures, ["b/1.png", "b/1.jpg"])
    assert [one.label["sem_seg_file_name"] for one in labelled] == ["b/1.png", "b/1.jpg"]
    with pytest.raises(ValueError, match="2 pictures, but 1 labels"):
        label_pictures(pictures, ["b/1.png"])
    with pytest.raises(FileNotFoundError, match=r"there is no file b/2.png"):
        label_pictures(pictures, ["b/1.png", "b/2.png"])


def test_pictures_come_the_right_way_up(tmp_path: Path) -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    array[0] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(str(tmp_path / "turned.png"))
    assert picture.shape == (6, 4, 3) and picture.flags.c_contiguous
    assert (picture[:, -1] == (255, 0, 0)).all() and (picture[:, :-1] == 0).all()
    (tmp_path / "broken.png").write_bytes((tmp_path / "turned.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cannot read the image .*broken.png"):
        read_picture(str(tmp_path / "broken.png"))


def test_decoding_keeps_the_order_and_stays_ahead() -> None:
    """The first job ends only when the third has begun, and no job is begun too early."""
    begun, third = [], threading.Event()

    def decode(job: int) -> int:
        begun.append(job)
        if job == 2:
            third.set()
        if job == 0:
            assert third.wait(30)
        return job * job

    jobs = decode_ahead(range(9), decode, workers=3, ahead=3)
    for expected, (job, result) in enumerate(jobs):
        assert (job, result) == (expected, expected**2)
        assert max(begun) <= expected + 3


def test_a_broken_job_is_given_and_not_raised() -> None:
    def decode(job: int) -> int:
        if job == 1:
            raise ValueError("broken")
        if job == 3:
            raise RuntimeError("a fault of the program")
        return job

    results = decode_ahead(range(4), decode)
    assert next(results) == (0, 0)
    job, error = next(results)
    assert job == 1 and isinstance(error, ValueError)
    assert next(results) == (2, 2)
    with pytest.raises(RuntimeError, match="a fault"):
        next(results)
    with pytest.raises(ValueError, match="workers and ahead must be at least 1, got 0 and 4"):
        next(decode_ahead([], decode, workers=0))


@pytest.mark.parametrize("name", ["x.gif", "a/x.GIF", "x.pdf", "x.wmv", "x.m4v"])
def test_files_that_cannot_be_written_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"output {name} cannot be written as \..* \.webm, \.mp4"):
        check_output_name(name)
    Path(name).mkdir(parents=True)
    check_output_name(name)  # a folder that is there


@pytest.mark.parametrize("name", ["drawn", "run.v2", "1.5", "x.png", "x.jpg", "x.mp4", "x.webm"])
def test_outputs_that_can_be_written(folder: Path, name: str) -> None:
    check_output_name(name)
