"""Frames with their neighbours, intrinsics and groups, as the model is given them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from film_folder import FilmFolder
from film_mapper import FilmMapper, group_table, transformed_intrinsics
from PIL import Image

from tests.projects.XDistill.film_data import INTRINSICS, write_film

CLASSES = ("sky", "road", "car")
GROUPS = {"far": ("sky",), "near": ("car", "road")}


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    write_film(tmp_path)
    return FilmFolder(str(tmp_path), 3)()[1]


def mapper(root: Path, augmentations: Sequence[Any] = (), **changes: Any) -> FilmMapper:
    options = {"teacher_root": str(root / "labels"), "teacher_classes": CLASSES, "groups": GROUPS}
    return FilmMapper(is_train=True, augmentations=augmentations, **options | changes)


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_inputs(record: dict[str, Any], tmp_path: Path) -> None:
    found = mapper(tmp_path)(record)
    np.testing.assert_array_equal(found["image"].permute(1, 2, 0), read(record["file_name"]))
    for source, path in zip(found["sources"], record["source_file_names"], strict=True):
        np.testing.assert_array_equal(source.permute(1, 2, 0), read(path))
    assert found["is_before"].tolist() == [True, False]
    torch.testing.assert_close(found["intrinsics"], torch.tensor(INTRINSICS))
    label = read(record["sem_seg_file_name"])
    np.testing.assert_array_equal(found["teacher"], np.array([0, 1, 1])[label])
    assert "teacher" not in FilmMapper(is_train=True)(record)
    tested = FilmMapper(is_train=False)(record)
    assert "sources" not in tested and torch.equal(tested["image"], found["image"])
    assert "image" not in record


def test_neighbours_and_labels_follow_the_augmentations(
    record: dict[str, Any], tmp_path: Path
) -> None:
    augmentations = [T.HFlipTransform(32), T.CropTransform(3, 2, 20, 16)]
    augmentations.append(T.BlendTransform(src_image=0, src_weight=0.5, dst_weight=0.5))
    plain, found = mapper(tmp_path)(record), mapper(tmp_path, augmentations)(record)
    for name in ("image", "sources", "teacher"):
        part = plain[name].flip(-1)[..., 2:18, 3:23]
        expected = part if name == "teacher" else (part.float() / 2).to(torch.uint8)
        assert torch.equal(found[name], expected), name


@pytest.mark.parametrize(
    ("transforms", "size"),
    [
        ([T.ResizeTransform(24, 32, 12, 16, 2)], (12, 16)),
        ([T.ResizeTransform(24, 32, 36, 80, 2)], (36, 80)),
        ([T.HFlipTransform(32)], (24, 32)),
        ([T.CropTransform(5, 3, 20, 15)], (15, 20)),
        ([T.ResizeTransform(24, 32, 48, 64, 2), T.CropTransform(9, 8, 40, 30)], (30, 40)),
        ([T.CropTransform(5, 3, 20, 15), T.HFlipTransform(20)], (15, 20)),
    ],
)
def test_intrinsics_follow_pixels(transforms: list[Any], size: tuple[int, int]) -> None:
    """A point of the scene is seen where the transform has moved its pixel to."""
    before, transform = np.array(INTRINSICS), T.TransformList(transforms)
    found = transformed_intrinsics(transform, before, (24, 32))
    assert found[0, 0] > 0 and found[1, 1] > 0
    points = np.random.default_rng(0).uniform((-2, -2, 4), (2, 2, 9), (6, 3))
    mirrored = sum(isinstance(one, T.HFlipTransform) for one in transforms) % 2
    seen = points @ before.T
    pixels = seen[:, :2] / seen[:, 2:]
    expected = transform.apply_coords(pixels + 0.5) - 0.5
    again = (points * ((-1) ** mirrored, 1, 1)) @ found.T
    np.testing.assert_allclose(again[:, :2] / again[:, 2:], expected, atol=1e-4)
    assert transform.apply_image(np.zeros((24, 32, 3), np.uint8)).shape[:2] == size


def test_a_rotation_is_refused() -> None:
    with pytest.raises(ValueError, match="augmentations must resize, crop and mirror alone"):
        transformed_intrinsics(T.RotationTransform(24, 32, 20), np.array(INTRINSICS), (24, 32))


def test_groups() -> None:
    table = group_table(GROUPS, CLASSES)
    assert table[:4].tolist() == [0, 1, 1, -1] and table[255] == 255


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"far": ["sky"], "near": ["road"]}, r"cover all teacher_classes, but car is in none of"),
        ({"far": ["sky"]}, "but road, car are in none"),
        ({"far": ["sky", "car"], "near": ["road", "car"]}, "have 'car' once, got it again in near"),
        ({"far": ["sky", "sea"]}, r"groups.far must be of teacher_classes, .* got 'sea'"),
    ],
)
def test_groups_that_do_not_cover_the_classes(groups: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        group_table(groups, CLASSES)


def test_labels_of_the_teacher_that_do_not_fit(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "labels" / "00" / "0001.png"
    label = read(path).copy()
    label[0, :2] = 7, 255
    Image.fromarray(label).save(path)
    with pytest.raises(ValueError, match=r"0001.png' must have ids of the 3 .*, or 255, got 7"):
        mapper(tmp_path)(record)
    label[0, 0] = 0
    Image.fromarray(label).save(path)
    assert mapper(tmp_path)(record)["teacher"][0, 1] == 255
    Image.fromarray(label[:20]).save(path)
    with pytest.raises(ValueError, match=r"0001.png' has \(height, width\) \(20, 32\), but .*24"):
        mapper(tmp_path)(record)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"0001.png"):
        mapper(tmp_path)(record)


def test_mistakes(record: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_format must be RGB, got 'BGR'"):
        mapper(tmp_path, image_format="BGR")
    Image.new("RGB", (32, 20)).save(record["source_file_names"][1])
    with pytest.raises(ValueError, match=r"0001.png has \(24, 32\) and .*0002.png \(20, 32\)"):
        mapper(tmp_path)(record)
