"""Drawn films: what they show, as files, and as a data set that a segmentor learns from too."""

import json
from collections.abc import Iterator
from pathlib import Path

import drawn_films
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from drawn_film import draw_frame, intrinsics_of
from drawn_films import film_counts, prepare_drawn_films, register_drawn_films
from drawn_street import CAMERA_HEIGHT, ROAD_HALF_WIDTH, Solid, make_path, make_street
from film_folder import read_depth
from PIL import Image

from ifa_d2.data import SemSegMapper
from ifa_d2.data.shapes import CLASSES, SHAPES_COUNTS

SIZE = (40, 60)
POSE = np.eye(4)
POSE[1, 3] = -CAMERA_HEIGHT


def test_depth_of_ground_box_and_ellipsoid() -> None:
    """Against their equations."""
    intrinsics = intrinsics_of(*SIZE)
    box = Solid(CLASSES.index("car"), (-1.0, -9.0, 6.0), (1.0, 0.0, 8.0), (0.5, 0.5, 0.5), 1.0)
    frame = draw_frame([box], POSE, intrinsics, *SIZE)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    with np.errstate(divide="ignore"):
        ground = np.where(y > 0, CAMERA_HEIGHT / y, np.inf)
    front = (np.abs(6 * x) < 1) & (6 * y > CAMERA_HEIGHT - 9)
    expected = np.where(front & (ground > 6), 6.0, ground)
    np.testing.assert_allclose(frame.depth, expected)
    assert (frame.label[front & (ground > 6)] == CLASSES.index("car")).all()
    road = np.abs(ground * x) < ROAD_HALF_WIDTH
    on_ground = ~(front & (ground > 6)) & np.isfinite(ground)
    assert (frame.label[on_ground & road] == CLASSES.index("road")).all()
    assert (frame.label[on_ground & ~road] == CLASSES.index("pavement")).all()
    assert (frame.label[~np.isfinite(expected)] == CLASSES.index("sky")).all()

    ball = Solid(
        5, (-2.0, -CAMERA_HEIGHT - 2, 8.0), (2.0, -CAMERA_HEIGHT + 2, 12.0), (1, 1, 1), 0, True
    )
    depth = draw_frame([ball], POSE, intrinsics, *SIZE).depth
    points = np.stack([x * depth, y * depth, depth - 10], -1)
    seen = x**2 + y**2 < 0.04  # within the cone that the ball fills, which has tangent 0.204
    np.testing.assert_allclose(np.linalg.norm(points[seen], axis=-1), 2)


def test_a_street() -> None:
    rng = np.random.default_rng(5)
    solids, path = make_street(rng), make_path(rng, 8)
    steps = np.diff(path[:, 2, 3])
    assert (steps > 0.29).all() and (steps < 0.51).all() and (path[:, 1, 3] == -CAMERA_HEIGHT).all()
    np.testing.assert_allclose(
        path[:, :3, :3] @ path[:, :3, :3].transpose(0, 2, 1),
        np.eye(3) + 0 * path[:, :3, :3],
        atol=1e-12,
    )
    first = draw_frame(solids, path[0], intrinsics_of(*SIZE), *SIZE)
    again = draw_frame(solids, path[0], intrinsics_of(*SIZE), *SIZE)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.image.shape == (*SIZE, 3) and first.image.std() > 30
    assert (first.depth > 0.5).all() and len(np.unique(first.label)) > 5
    np.testing.assert_array_equal(np.isinf(first.depth), first.label == CLASSES.index("sky"))
    later = draw_frame(solids, path[7], intrinsics_of(*SIZE), *SIZE)
    assert np.abs(later.image.astype(float) - first.image).mean() > 10


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr(drawn_films, "FRAMES", 3)
    for split in SHAPES_COUNTS:
        monkeypatch.setitem(SHAPES_COUNTS, split, 2)
    yield tmp_path
    for split in ("train", "val"):
        vars(MetadataCatalog.get(f"xdistill_shapes_{split}")).pop("image_root", None)


def test_records_and_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert film_counts() == {"train": 1, "val": 1}
    prepare_drawn_films(root / "xdistill_shapes", {"train": 1, "val": 1}, 3)
    monkeypatch.setattr(drawn_films, "prepare_drawn_films", lambda *_: None)
    register_drawn_films()  # once more
    records = DatasetCatalog.get("xdistill_shapes_val")
    assert [one["image_id"] for one in records] == ["00/0000", "00/0001", "00/0002"]
    folder = root / "xdistill_shapes" / "val"
    camera = json.loads((folder / "cameras" / "00.json").read_text())
    assert camera["intrinsics"] == intrinsics_of(64, 96).tolist() == records[0]["intrinsics"]
    assert np.array(camera["poses"]).shape == (3, 4, 4)
    for one in records:
        depth = read_depth(one["depth_file_name"])
        with Image.open(one["sem_seg_file_name"]) as image:
            label = np.asarray(image)
        assert depth.shape == label.shape == (64, 96)
        np.testing.assert_array_equal(depth == 0, label == CLASSES.index("sky"))
    found = SemSegMapper(is_train=True)(records[1])
    assert found["sem_seg"].shape == (64, 96) and found["sem_seg"].max() < 13
    train = DatasetCatalog.get("xdistill_shapes_train")
    assert Path(train[0]["file_name"]).read_bytes() != Path(records[0]["file_name"]).read_bytes()
    assert MetadataCatalog.get("xdistill_shapes_val").image_root == str(folder / "images")


def test_they_are_drawn_once_and_replaced_when_they_change(tmp_path: Path) -> None:
    folder = prepare_drawn_films(tmp_path / "films", {"val": 1}, 1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    prepare_drawn_films(folder, {"val": 1}, 1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    prepare_drawn_films(folder, {"val": 1}, 2)
    assert len(list((folder / "val" / "images" / "00").iterdir())) == 2
    assert not list(tmp_path.glob(".films-*"))


def test_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"films' exists but holds no xdistill_shapes.json"):
        prepare_drawn_films(tmp_path / "films", {"val": 1}, 1)
    assert (tmp_path / "films" / "mine.txt").exists()
