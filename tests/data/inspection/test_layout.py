"""Pairs in folders of any layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifa_d2.data.inspection import Layout, find_layout

RNG = np.random.default_rng(0)
LABEL = np.kron([[0, 1], [2, 0]], np.ones((8, 8))).astype(np.uint8)


def picture(root: Path, *names: str) -> None:
    """Photographs: every pixel another colour."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def label(root: Path, *names: str, pixels: np.ndarray = LABEL) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def found(root: Path, layout: Layout) -> dict[str, tuple[str, str]]:
    """Labels and splits by images, as names below the root."""
    return {
        Path(one.image).relative_to(root).as_posix(): (
            Path(one.label).relative_to(root).as_posix(),
            one.split,
        )
        for one in layout.pairs
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("a/{}.jpg", "b/{}.tif"),
        ("images/{}.jpg", "images/{}_mask.png"),
        ("images/{}.png", "images/{}_mask.png"),
        ("images/{}.jpg", "images/{}.png"),
        ("rgb/shot_{}.png", "gt/mask_{}.png"),
        ("left/town_{}_leftImg8bit.png", "fine/town_{}_gtFine_labelIds.png"),
    ],
)
def test_names_pair_whatever_they_begin_and_end_with(tmp_path: Path, image: str, mask: str) -> None:
    numbers = ["000001", "000010", "000002", "a"]
    picture(tmp_path, *(image.format(one) for one in numbers))
    label(tmp_path, *(mask.format(one) for one in numbers))
    layout = find_layout([tmp_path])
    pairs = found(tmp_path, layout)
    assert layout.form == "pictures" and layout.without_label == 0
    assert {one: pairs[image.format(one)][0] for one in numbers} == {
        one: mask.format(one) for one in numbers
    }
    assert sorted(split for _, split in pairs.values()) == ["train", "train", "train", "val"]


@pytest.mark.parametrize(
    ("image", "mask", "names"),
    [
        ("images/{}/{}.png", "labels/{}/{}.png", ("train", "val", "test")),
        ("{}/images/{}.png", "{}/masks/{}.png", ("Training", "valid", "testing")),
        ("{}2017/{}.jpg", "stuff/{}/{}.png", ("train", "validation", "test")),
    ],
)
def test_folders_of_the_same_names_belong_together_and_say_the_split(
    tmp_path: Path, image: str, mask: str, names: tuple[str, ...]
) -> None:
    """Also where the pictures of each part are numbered from 1."""
    for name in names:
        picture(tmp_path, *(image.format(name, one) for one in "12"))
        label(tmp_path, *(mask.format(name, one) for one in "12"))
    assert found(tmp_path, find_layout([tmp_path])) == {
        image.format(name, one): (mask.format(name, one), split)
        for name, split in zip(names, ("train", "val", "test"), strict=True)
        for one in "12"
    }


def test_every_fifth_validates_and_a_test_part_stays(tmp_path: Path) -> None:
    names = [f"{index:02}" for index in range(11)]
    picture(tmp_path, *(f"train/images/{one}.png" for one in names), "test/images/x.png")
    label(tmp_path, *(f"train/labels/{one}.png" for one in names), "test/labels/x.png")
    splits = {name: split for name, (_, split) in found(tmp_path, find_layout([tmp_path])).items()}
    assert [name for name, split in splits.items() if split == "val"] == [
        "train/images/04.png",
        "train/images/09.png",
    ]
    assert splits["test/images/x.png"] == "test"


def test_vocs_lists_and_their_second_pictures(tmp_path: Path) -> None:
    picture(tmp_path, *(f"JPEGImages/{one}.jpg" for one in ("a", "b.v1", "c", "d")))
    for folder in ("SegmentationClass", "SegmentationObject"):
        label(tmp_path, *(f"{folder}/{one}.png" for one in ("a", "b.v1", "c")))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b.v1\n")
    (lists / "val.txt").write_text("a.jpg\n")
    layout = find_layout([tmp_path])
    assert found(tmp_path, layout) == {
        "JPEGImages/a.jpg": ("SegmentationClass/a.png", "val"),
        "JPEGImages/b.v1.jpg": ("SegmentationClass/b.v1.png", "train"),
    }
    assert (layout.without_label, layout.unlisted) == (1, 1)
    # Named, they are taken all the same.
    explicit = find_layout([tmp_path / "JPEGImages", tmp_path / "SegmentationObject"])
    assert len(explicit.pairs) == 3


def test_two_folders_need_not_be_told_apart(tmp_path: Path) -> None:
    label(tmp_path / "drawings", "1.png", "2.png")
    label(tmp_path / "classes", "1.png", "2.png")
    layout = find_layout([tmp_path / "drawings", tmp_path / "classes"])
    assert found(tmp_path, layout) == {
        "drawings/1.png": ("classes/1.png", "train"),
        "drawings/2.png": ("classes/2.png", "val"),
    }
    with pytest.raises(ValueError, match=r"found no images: labels are PNGs .*IMAGES LABELS"):
        find_layout([tmp_path])


def test_labelme_beside_the_pictures(tmp_path: Path) -> None:
    picture(tmp_path, "train_1.jpg", "val_2.jpg")
    for name in ("train_1", "val_2"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"shapes": []}))
    (tmp_path / "notes.json").write_text("[]")
    layout = find_layout([tmp_path])
    assert layout.form == "labelme"
    assert found(tmp_path, layout)["train_1.jpg"] == ("train_1.json", "train")


def coco(path: Path, *names: str) -> None:
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_coco_beside_its_images_and_apart_from_them(tmp_path: Path) -> None:
    picture(tmp_path, "train2017/a.jpg", "val2017/a.jpg", "images/b.jpg")
    coco(tmp_path / "train2017" / "_annotations.coco.json", "a.jpg")
    coco(tmp_path / "annotations" / "stuff_val2017.json", "b.jpg")
    layout = find_layout([tmp_path])
    assert layout.form == "coco"
    assert found(tmp_path, layout) == {
        "train2017/a.jpg": ("train2017/_annotations.coco.json", "train"),
        "images/b.jpg": ("annotations/stuff_val2017.json", "val"),
    }
    coco(tmp_path / "annotations" / "stuff_val2017.json", "a.jpg")
    with pytest.raises(ValueError, match=r"1 images of .* are not to be found, or several .*a.jpg"):
        find_layout([tmp_path])


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one folder, or IMAGES LABELS, got 3 paths"):
        find_layout([tmp_path] * 3)
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing"):
        find_layout([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="found no images"):
        find_layout([tmp_path])
    picture(tmp_path, "images/a.png", "images/b.png")
    with pytest.raises(ValueError, match="found no labels"):
        find_layout([tmp_path])
    with pytest.raises(ValueError, match=r"a.png must be a folder"):
        find_layout([tmp_path / "images" / "a.png"])
    label(tmp_path, "labels/a.png")
    with pytest.raises(ValueError, match="found 1 pairs to train and to validate"):
        find_layout([tmp_path])
    label(tmp_path, "labels/c.png")
    with pytest.raises(ValueError, match=r"1 of 2 labels in .* have no image of .*c\.png"):
        find_layout([tmp_path])
    (tmp_path / "labels" / "c.png").unlink()
    label(tmp_path, "more/b.png", "more/a.png")
    with pytest.raises(ValueError, match=r"a\.png has two labels, .*labels/a\.png and .*more/a"):
        find_layout([tmp_path])
    picture(tmp_path, "copies/a.png", "copies/b.png")
    with pytest.raises(ValueError, match=r"fit the images in .*copies and in .*images alike"):
        find_layout([tmp_path])
