"""KITTI's layout, in small: lists, intrinsics, neighbours and ground truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from film_folder import evaluated_frames, read_depth, training_frames, write_depth
from kitti import KittiSplit, read_kitti_intrinsics, register_kitti
from PIL import Image

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0001_sync"
CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_rect_02: 4.000000e+01 3.000000e+01
P_rect_02: 2.1e+01 0.0 1.9e+01 4.485728e+01 0.0 2.2e+01 1.4e+01 2.163791e-01 0.0 0.0 1.0 2.7e-03
P_rect_03: 2.3e+01 0.0 1.9e+01 -3.395242e+02 0.0 2.2e+01 1.4e+01 2.199936e+00 0.0 0.0 1.0 2.7e-03
"""


def write_kitti(root: Path) -> Path:
    """Write a drive of five frames, lists of two frames, and depth of one; gives the raw folder."""
    raw = root / "kitti_raw"
    rng = np.random.default_rng(0)
    for camera in ("02", "03"):
        folder = raw / DATE / DRIVE / f"image_{camera}" / "data"
        folder.mkdir(parents=True)
        for number in range(5):
            picture = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8))
            picture.save(folder / f"{number:010d}.{'png' if camera == '02' else 'jpg'}")
    (raw / DATE / "calib_cam_to_cam.txt").write_text(CALIBRATION)
    (raw / "splits").mkdir()
    lines = f"{DATE}/{DRIVE} 2 l\n{DATE}/{DRIVE} 0000000003 r\n"
    for split in ("train", "val"):
        (raw / "splits" / f"{split}_files.txt").write_text(lines)
    (raw / "splits" / "test_files.txt").write_text(f"{DATE}/{DRIVE} 0 l\n")
    truth = root / "kitti_depth" / "val" / DRIVE / "proj_depth" / "groundtruth" / "image_02"
    truth.mkdir(parents=True)
    for number in (0, 2):
        write_depth(truth / f"{number:010d}.png", rng.uniform(2, 80, (30, 40)))
    return raw


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return write_kitti(tmp_path)


def test_records(raw: Path) -> None:
    register_kitti()  # once more
    left, right = DatasetCatalog.get("kitti_depth_train")
    folder = raw / DATE / DRIVE
    assert left["file_name"] == str(folder / "image_02" / "data" / "0000000002.png")
    assert left["image_id"] == f"{DRIVE}/image_02/0000000002"
    assert (left["height"], left["width"]) == (30, 40)
    assert left["intrinsics"] == [[21, 0, 19], [0, 22, 14], [0, 0, 1]]
    names = [Path(one).name for one in right["source_file_names"]]
    assert names == ["0000000002.jpg", "0000000004.jpg"] and right["intrinsics"][0][0] == 23
    assert read_depth(left["depth_file_name"]).shape == (30, 40) and "depth_file_name" not in right
    assert training_frames("kitti_depth_train") == [left, right]
    assert evaluated_frames("kitti_depth_val") == [left]
    (tested,) = evaluated_frames("kitti_depth_test")
    assert "source_file_names" not in tested and tested["image_id"].endswith("0000000000")


def _no_list(raw: Path) -> None:
    (raw / "splits" / "val_files.txt").unlink()


def _no_frame(raw: Path) -> None:
    (raw / DATE / DRIVE / "image_02" / "data" / "0000000001.png").unlink()


def _no_calibration(raw: Path) -> None:
    (raw / DATE / "calib_cam_to_cam.txt").unlink()


def _line(text: str) -> Callable[[Path], None]:
    def harm(raw: Path) -> None:
        with (raw / "splits" / "val_files.txt").open("a") as file:
            file.write(text)

    return harm


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (_no_list, FileNotFoundError, r"the list .*val_files.txt of KITTI's frames is missing: li"),
        (_no_frame, FileNotFoundError, r"val_files.txt:1 needs frame .*image_02/data/0000000001 "),
        (_no_calibration, FileNotFoundError, r"calib_cam_to_cam.txt are missing: it is part of"),
        (_line("2011_09_26 3 l\n"), ValueError, r"val_files.txt:3 must be .* got '2011_09_26 3 l'"),
        (_line(f"{DATE}/{DRIVE} 3 x\n"), ValueError, r'val_files.txt:3 must be "DATE/DRIVE NUMBER'),
        (_line(f"{DATE}/{DRIVE} 4 l\n"), FileNotFoundError, r"needs frame .*0000000005 "),
    ],
)
def test_data_that_are_not_whole(
    raw: Path, harm: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    harm(raw)
    with pytest.raises(error, match=words):
        KittiSplit("val")()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"must have a line P_rect_02: of twelve numbers"),
        ("P_rect_02: 1 2 3", r"must have a line P_rect_02: of twelve numbers"),
        ("P_rect_02: 1 0 2 0 0 x 2 0 0 0 1 0", r"a line P_rect_02: of twelve numbers"),
        ("P_rect_02: 1 0 2 0 0 -1 2 0 0 0 1 0", r"must be \[\[fx, 0, cx\].* fx and fy above 0"),
    ],
)
def test_calibrations_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "calib_cam_to_cam.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_kitti_intrinsics(path, "02")
