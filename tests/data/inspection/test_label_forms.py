"""What the values of labels are taken for."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifa_d2.data.inspection import Labels, Layout, Pair, find_labels


def find(root: Path, *labels: np.ndarray, mode: str | None = None, **options: object) -> Labels:
    pairs = []
    for index, pixels in enumerate(labels):
        path = root / f"{index}.png"
        Image.fromarray(np.array(pixels), mode=mode).save(path)
        pairs.append(Pair(f"{index}.jpg", str(path), "train"))
    return find_labels(Layout("pictures", tuple(pairs)), [root], **options)


def ids(*values: int) -> np.ndarray:
    return np.array([values], np.uint16 if max(values) > 255 else np.uint8)


@pytest.mark.parametrize(
    ("values", "classes", "has_table"),
    [
        ((0, 255), ("background", "foreground"), True),
        ((0, 1), ("background", "foreground"), False),
        ((0, 1, 2, 255), ("class 0", "class 1", "class 2"), False),
        ((0, 128, 255), ("class 0", "class 128"), True),
        ((0, 1000), ("class 0", "class 1000"), True),
    ],
)
def test_ids(tmp_path: Path, values: tuple, classes: tuple, has_table: bool) -> None:
    labels = find(tmp_path, *(ids(value) for value in values))
    assert labels.classes == classes
    table = {"label_values": dict(zip(values, classes, strict=False))}
    assert labels.options == (table if has_table else {})


def test_palette_indices_are_ids(tmp_path: Path) -> None:
    image = Image.fromarray(ids(0, 1, 255), mode="P")
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "a.png")
    layout = Layout("pictures", (Pair("a.jpg", str(tmp_path / "a.png")),))
    labels = find_labels(layout, [tmp_path])
    assert labels.form == "class ids, 255 ignored" and len(labels.classes) == 2


def test_names_and_what_is_ignored(tmp_path: Path) -> None:
    labels = find(tmp_path, ids(0, 1, 2), class_names=["a", "b", "c", "d"])
    assert (labels.classes, labels.options) == (("a", "b", "c", "d"), {})
    labels = find(tmp_path, ids(0, 1, 2), class_names=["a", "b"], ignore_label=2)
    assert (labels.classes, labels.options) == (("a", "b"), {"ignore_label": 2})
    # 0 is ignored, and so the ids of the classes change.
    labels = find(tmp_path, ids(0, 1, 2), ignore_label=0)
    assert labels.options == {"label_values": {1: "class 1", 2: "class 2", 0: None}}
    with pytest.raises(ValueError, match=r"classes must be 3 names, for class ids, got 1: a"):
        find(tmp_path, ids(0, 1, 2), class_names=["a"])
    (tmp_path / "classes.txt").write_text("__ignore__\nsky\n\nroad\ncar\n")
    assert find(tmp_path, ids(0, 1, 2)).classes == ("sky", "road", "car")


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_colours(tmp_path: Path) -> None:
    pixels = np.array([[RED, BLUE]], np.uint8)
    labels = find(tmp_path, pixels)
    assert labels.classes == ("color 0 0 255", "color 255 0 0")
    assert labels.options == {"label_values": dict(zip((BLUE, RED), labels.classes, strict=True))}
    assert find(tmp_path, pixels, class_names=["sea", "fire"]).options == {
        "label_values": {BLUE: "sea", RED: "fire"}
    }
    with pytest.raises(ValueError, match="ignore_label 0 is an id, but the labels are of colours"):
        find(tmp_path, pixels, ignore_label=0)
    with pytest.raises(ValueError, match=r"hold the colour \(255, 0, 0\) alone"):
        find(tmp_path, pixels[:, :1])
    with pytest.raises(ValueError, match=r"some labels have colours, but .*1.png has ids"):
        find(tmp_path, pixels, ids(0, 1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nfire:255,0,0::\nsea:0,0,255::\n"),
        ("class_dict.csv", "Name, r, g, b\nfire, 255, 0, 0\nsea, 0, 0, 255\n"),
    ],
)
def test_tables_of_colours(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    labels = find(tmp_path, np.array([[RED, BLUE]], np.uint8))
    assert labels.classes == ("fire", "sea")
    assert labels.options == {"label_values": {RED: "fire", BLUE: "sea"}}
    with pytest.raises(ValueError, match=r"colours \(1, 2, 3\), which the table .* lacks"):
        find(tmp_path, np.array([[RED, (1, 2, 3)]], np.uint8))


def test_tables_that_cannot_be_read_and_names_twice(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text("fire 255 0 0\n")
    with pytest.raises(ValueError, match=r"labelmap.txt must have lines as name:r,g,b"):
        find(tmp_path, np.array([[RED, BLUE]], np.uint8))
    with pytest.raises(ValueError, match="classes must have different names, got a, a"):
        find(tmp_path, ids(0, 1), class_names=["a", "a"])


def test_what_are_no_classes(tmp_path: Path) -> None:
    photograph = np.arange(300, dtype=np.uint16)[None]
    with pytest.raises(ValueError, match=r"0.png' holds 300 different values, too many"):
        find(tmp_path, photograph)
    with pytest.raises(ValueError, match="the labels hold 300 different values, too many"):
        find(tmp_path, photograph[:, :200], photograph[:, 100:])
    with pytest.raises(ValueError, match="hold 0 alone, of which 255 is ignored: one class"):
        find(tmp_path, ids(0))
    path = tmp_path / "a.jpg"
    Image.new("RGB", (2, 2)).save(path)
    with pytest.raises(ValueError, match=r"a.jpg' is a JPEG, which keeps no colours"):
        find_labels(Layout("pictures", (Pair("b.jpg", str(path)),)), [tmp_path])


def texts(root: Path, form: str, *contents: dict) -> Layout:
    pairs = []
    for index, content in enumerate(contents):
        path = root / f"{index}.json"
        path.write_text(json.dumps(content))
        pairs.append(Pair(f"{index}.jpg", str(path)))
    return Layout(form, tuple(pairs))


def test_names_of_polygons(tmp_path: Path) -> None:
    shapes = [{"label": "leaf"}, {"label": "stem"}]
    layout = texts(tmp_path, "labelme", {"shapes": shapes[:1]}, {"shapes": shapes[1:]})
    labels = find_labels(layout, [tmp_path])
    assert labels.classes == ("background", "leaf", "stem")
    assert labels.options == {"background": "background"}
    ordered = find_labels(layout, [tmp_path], class_names=["stem", "leaf"])
    assert ordered.classes == ("background", "stem", "leaf")
    with pytest.raises(ValueError, match=r"classes must be leaf, stem, in any order, got"):
        find_labels(layout, [tmp_path], class_names=["stem"])
    with pytest.raises(ValueError, match="ignore_label 3 is of label pictures"):
        find_labels(layout, [tmp_path], ignore_label=3)
    with pytest.raises(ValueError, match="have no annotation"):
        find_labels(texts(tmp_path, "labelme", {"shapes": []}), [tmp_path])


def test_categories_that_annotations_have(tmp_path: Path) -> None:
    categories = [{"id": 4, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"categories": categories, "annotations": [{"category_id": 4}]}
    labels = find_labels(texts(tmp_path, "coco", content), [tmp_path])
    assert labels.classes == ("background", "cat")
    content = {"categories": categories, "annotations": [{"segments_info": []}]}
    with pytest.raises(ValueError, match=r"0.json is panoptic: register it with"):
        find_labels(texts(tmp_path, "coco", content), [tmp_path])
