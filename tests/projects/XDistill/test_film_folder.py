"""Films as records, and what is refused of folders, intrinsics and depth."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from film_folder import (
    FilmFolder,
    evaluated_frames,
    read_depth,
    read_intrinsics,
    training_frames,
    write_depth,
)
from PIL import Image

from tests.projects.XDistill.film_data import INTRINSICS, write_camera, write_film


def test_records(tmp_path: Path) -> None:
    write_film(tmp_path, "b", range(8, 12))  # 0008 to 0011
    write_film(tmp_path, "a", range(2), size=(10, 14))
    records = FilmFolder(str(tmp_path), 3)()
    names = [one["image_id"] for one in records]
    assert names == ["a/0000", "a/0001", "b/0008", "b/0009", "b/0010", "b/0011"]
    assert (records[0]["height"], records[0]["width"]) == (10, 14)
    assert records[2]["intrinsics"] == INTRINSICS
    assert [one["image_id"] for one in records if "source_file_names" in one] == names[3:5]
    film = tmp_path / "images" / "b"
    expected = [str(film / "0008.png"), str(film / "0010.png")]
    assert records[3]["source_file_names"] == expected
    assert records[3]["depth_file_name"] == str(tmp_path / "depth" / "b" / "0009.png")
    assert records[3]["sem_seg_file_name"] == str(tmp_path / "labels" / "b" / "0009.png")


def test_frames_are_ordered_by_number(tmp_path: Path) -> None:
    film = write_film(tmp_path, "a", [9, 10, 11])
    for folder in ("images", "depth", "labels"):
        (tmp_path / folder / "a" / "0009.png").rename(tmp_path / folder / "a" / "9.png")
    names = [Path(one["file_name"]).name for one in FilmFolder(str(film.parents[1]), 3)()]
    assert names == ["9.png", "0010.png", "0011.png"]


def _gap(root: Path) -> None:
    (root / "images" / "00" / "0002.png").unlink()


def _unnumbered(root: Path) -> None:
    film = root / "images" / "00"
    (film / "0002.png").rename(film / "second.png")


def _twice(root: Path) -> None:
    Image.new("RGB", (32, 24)).save(root / "images" / "00" / "2.png")


def _other_size(root: Path) -> None:
    Image.new("RGB", (32, 20)).save(root / "images" / "00" / "0002.png")


def _no_camera(root: Path) -> None:
    (root / "cameras" / "00.json").unlink()


def _no_depth(root: Path) -> None:
    (root / "depth" / "00" / "0001.png").unlink()


def _no_frames(root: Path) -> None:
    for path in (root / "images" / "00").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (_gap, ValueError, r"00 must be numbered without gaps, but 0003.png comes behind 0001.png"),
        (_unnumbered, ValueError, r"named by their numbers, such as 0007.png, got second.png"),
        (_twice, ValueError, r"(0002|2).png and (0002|2).png have one number"),
        (_other_size, ValueError, r"0000.png has \(24, 32\) and 0002.png \(20, 32\)"),
        (_no_camera, FileNotFoundError, r"cameras/00.json are missing: it must hold .*\[fx, 0, cx"),
        (_no_depth, FileNotFoundError, r"0001.png has no .*depth/00/0001.png"),
        (_no_frames, FileNotFoundError, r"there are no frames \(.png, .jpg\) in .*images/00"),
    ],
)
def test_films_that_are_not_whole(
    tmp_path: Path, harm: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    write_film(tmp_path)
    harm(tmp_path)
    with pytest.raises(error, match=words):
        FilmFolder(str(tmp_path), 3)()


def test_no_films(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no films in .*images: draw them"):
        FilmFolder(str(tmp_path), 3, how_to_get="draw them")()


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 2], [0, 1, 2]],
        [[-5, 0, 2], [0, 5, 2], [0, 0, 1]],
        [[5, 1, 2], [0, 5, 2], [0, 0, 1]],
        [[5, 0, 2], [0, 5, 2], [0, 0, 2]],
        [[5, 0, float("nan")], [0, 5, 2], [0, 0, 1]],
    ],
)
def test_intrinsics_that_are_none(tmp_path: Path, matrix: Any) -> None:
    path = tmp_path / "camera.json"
    write_camera(path, matrix)
    with pytest.raises(ValueError, match=r"camera.json must be \[\[fx, 0, cx\].* fx and fy above"):
        read_intrinsics(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"intrinsics": "x"}', json.dumps([1])])
def test_files_that_hold_no_intrinsics(tmp_path: Path, text: str) -> None:
    path = tmp_path / "camera.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"camera.json must hold \{\"intrinsics\": \[\[fx"):
        read_intrinsics(path)


def test_depth_files(tmp_path: Path) -> None:
    depth = np.array([[0.0, 1.0, 1 / 256], [np.inf, 255.99, 256.5]])
    write_depth(tmp_path / "a.png", depth)
    found = read_depth(tmp_path / "a.png")
    np.testing.assert_allclose(found, [[0, 1, 1 / 256], [0, 255.99, 0]], atol=1 / 512)
    Image.new("L", (3, 2)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png' must have one band of 16 bits, .* got mode L"):
        read_depth(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("none")
    with pytest.raises(ValueError, match=r"c.png' cannot be read"):
        read_depth(tmp_path / "c.png")
    with pytest.raises(FileNotFoundError):
        read_depth(tmp_path / "d.png")


def test_frames_to_train_and_evaluate_on(tmp_path: Path) -> None:
    write_film(tmp_path / "whole")
    write_film(tmp_path / "short", numbers=range(2))
    (tmp_path / "short" / "depth").rename(tmp_path / "short" / "else")
    for name in ("whole", "short"):
        DatasetCatalog.register(f"film_{name}", FilmFolder(str(tmp_path / name), 3))
    try:
        assert len(training_frames("film_whole")) == 2
        assert len(training_frames(["film_whole", "film_whole"])) == 4
        assert len(evaluated_frames("film_whole")) == 4
        root = str(tmp_path / "teacher")
        with pytest.raises(FileNotFoundError, match="teacher is no folder: it must hold the teac"):
            training_frames("film_whole", root)
        shutil.copytree(tmp_path / "whole" / "labels", root)
        assert len(training_frames("film_whole", root)) == 2
        (tmp_path / "teacher" / "00" / "0002.png").unlink()
        words = r"no label of 1 of 2 frames, such as .*teacher/00/0002.png: write all frames' labe"
        with pytest.raises(FileNotFoundError, match=words):
            training_frames("film_whole", root)
        with pytest.raises(ValueError, match="'film_short' has no frame with one before and one"):
            training_frames("film_short")
        with pytest.raises(ValueError, match="'film_short' has no frame with a depth"):
            evaluated_frames("film_short")
        with pytest.raises(ValueError, match="film_whol"):
            training_frames("film_whol")
    finally:
        for name in ("whole", "short"):
            DatasetCatalog.pop(f"film_{name}")
