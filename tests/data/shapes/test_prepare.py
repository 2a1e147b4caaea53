"""The drawn data set as files."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifa_d2.data.shapes import CLASSES, SHAPES_SIZE, make_scene, prepare_shapes

COUNTS = {"train": 2, "val": 1}
# Pixels of each class in the first training label. A change here is a change of the data set:
# raise SHAPES_VERSION with it.
FIRST = (6649, 4148, 719, 5105, 3621, 925, 660, 529, 328, 136, 1258, 498, 0)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _prepare(root: Path, **changes: object) -> Path:
    return prepare_shapes(root, **({"counts": COUNTS, "progress": False} | changes))


def test_files_hold_the_scenes(tmp_path):
    root = _prepare(tmp_path / "a" / "shapes")
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert names == {
        "shapes.json",
        *(f"{kind}/train/{i:04d}.png" for kind in ("images", "annotations") for i in range(2)),
        *(f"{kind}/val/0000.png" for kind in ("images", "annotations")),
    }
    scene = make_scene(2022, 1, 0)
    label = _pixels(root / "annotations/val/0000.png")
    np.testing.assert_array_equal(label, scene.label(*SHAPES_SIZE))
    np.testing.assert_array_equal(_pixels(root / "images/val/0000.png"), scene.image(*SHAPES_SIZE))


def test_the_data_set_is_still_this_version():
    label = make_scene(2022, 0, 0).label(*SHAPES_SIZE)
    counts = np.bincount(label.ravel(), minlength=len(CLASSES))
    assert np.abs(counts - FIRST).max() <= 3  # to rounding of other machines


def test_it_is_drawn_once(tmp_path):
    root = _prepare(tmp_path / "shapes")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    _prepare(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("marker", ['{"version": 0}', "", "[]"])
def test_another_version_is_replaced(tmp_path, marker):
    root = _prepare(tmp_path / "shapes")
    (root / "shapes.json").write_text(marker)
    (root / "images" / "train" / "old.png").write_bytes(b"")
    _prepare(root)
    assert sorted(os.listdir(root / "images" / "train")) == ["0000.png", "0001.png"]
    assert sorted(os.listdir(tmp_path)) == ["shapes", "shapes.lock"]


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=rf"root '{tmp_path}/shapes' exists but holds no"):
        _prepare(tmp_path / "shapes")
    assert (tmp_path / "shapes" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert (_prepare(tmp_path / "empty") / "shapes.json").is_file()


def test_unknown_splits_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"counts must be of .*'test'"):
        _prepare(tmp_path / "shapes", counts={"test": 1})
    assert list(tmp_path.iterdir()) == []


def test_nobody_sees_half_of_it(tmp_path):
    root = tmp_path / "shapes"
    thread = threading.Thread(target=_prepare, args=(root,), kwargs={"counts": {"train": 8}})
    thread.start()
    looks = 0
    while thread.is_alive():
        if root.exists():
            assert (root / "shapes.json").is_file()
            assert len(os.listdir(root / "annotations" / "train")) == 8
        looks += 1
    thread.join()
    assert looks > 10
    assert root.is_dir()


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".shapes-abc"
    (left / "new" / "images").mkdir(parents=True)
    other = tmp_path / ".mine"
    other.mkdir()
    _prepare(tmp_path / "shapes", counts={"train": 1})
    assert not left.exists() and other.exists()


def _prepare_and_identify(root: Path, _: int) -> tuple[int, int]:
    _prepare(root, counts={"train": 12})
    return os.getpid(), os.stat(root / "images").st_ino


def test_processes_at_once_draw_it_once(tmp_path):
    root = tmp_path / "shapes"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        found = list(pool.map(partial(_prepare_and_identify, root), range(2)))
    assert len({inode for _, inode in found}) == 1
    assert sorted(os.listdir(tmp_path)) == ["shapes", "shapes.lock"]
    for index in range(12):
        assert _pixels(root / f"images/train/{index:04d}.png").shape == (*SHAPES_SIZE, 3)
