"""LabelMe's files as labels."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from ifa_d2.data import read_label, register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from tests.data.readers import read_everywhere

CLASSES = ("ground", "thing", "other")
THING = {"label": "thing", "points": [[1, 0], [3, 0], [3, 2], [1, 2]], "shape_type": "polygon"}


def write(root: Path, shapes: list, size: tuple[int, int] = (3, 5), **changes: object) -> Path:
    """A picture of 3 x 5 pixels with LabelMe's file beside it."""
    Image.new("RGB", (5, 3)).save(root / "a.jpg")
    content = {
        "imageHeight": size[0],
        "imageWidth": size[1],
        "shapes": shapes,
        "imagePath": "a.jpg",
    }
    path = root / "a.json"
    path.write_text(json.dumps(content | changes))
    return path


def register(root: Path, **options: object) -> None:
    options = {"background": "ground", "label_suffix": ".json", "classes": CLASSES} | options
    register_sem_seg_folder("mine", root, root, image_suffixes=".jpg", **options)


def test_polygons(tmp_path: Path) -> None:
    write(tmp_path, [THING])
    register(tmp_path)
    read_everywhere([[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])


def test_later_shapes_lie_above_and_pixels_in_none_are_ignored(tmp_path: Path) -> None:
    over = {"label": "other", "points": [[2, 1], [5, 3]], "shape_type": "rectangle"}
    write(tmp_path, [THING, over])
    register(tmp_path, background=None)
    read_everywhere([[255, 1, 1, 255, 255], [255, 1, 2, 2, 2], [255, 255, 2, 2, 2]])


def test_a_box_may_be_drawn_from_any_corner(tmp_path: Path) -> None:
    write(tmp_path, [THING | {"points": [[3, 2], [1, 0]], "shape_type": "rectangle"}])
    register(tmp_path)
    read_everywhere([[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])


def test_circles_hold_the_pixels_whose_centres_they_hold(tmp_path: Path) -> None:
    write(tmp_path, [THING | {"points": [[2.5, 1.5], [2.5, 0.4]], "shape_type": "circle"}])
    register(tmp_path)
    read_everywhere([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])


def test_masks_lie_at_their_corner(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[True, False, True]])).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    shape = {"shape_type": "mask", "points": [[2, 1], [4, 1]], "mask": mask}
    path = write(tmp_path, [THING | shape])
    register(tmp_path)
    read_everywhere([[0, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    for change, said in (
        ({"points": [[3, 1], [5, 1]]}, r"has a mask that ends beyond the picture of \(3, 5\)"),
        ({"mask": mask[:40]}, "damaged mask"),
    ):
        write(tmp_path, [THING | shape | change])
        (fault,) = check_dataset("mine").faults
        assert fault.file == str(path)
        with pytest.raises(ValueError, match=rf"label '{path}': shape 1 \('thing'\) .*{said}"):
            read_label(path, table=DatasetCatalog.get("mine")[0]["label_table"])


def test_names_are_put_together_and_left_out(tmp_path: Path) -> None:
    box = {"points": [[4, 2], [5, 3]], "shape_type": "rectangle", "label": "blurred"}
    write(tmp_path, [THING | {"label": "Ding"}, box])
    register(tmp_path, label_values={"Ding": "thing", "thing": 1, "blurred": None})
    read_everywhere([[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 255]])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"label": "thnig"}, "holds the name 'thnig' in shape 1, which is none of 'ground'"),
        ({"shape_type": "line"}, r"shape 1 \('thing'\) is a line, which has no area: label with"),
        ({"points": [[0, 0], [1, 1]]}, r"shape 1 \('thing'\) has a polygon of less than 3 points"),
        ({"points": [[0, 0], [1, 1], [0, None]]}, "has a polygon of what are no numbers"),
        ({"points": None}, "shape 1 is not as LabelMe writes it"),
    ],
)
def test_faults_of_shapes(tmp_path: Path, shape: dict, said: str) -> None:
    path = write(tmp_path, [THING | shape])
    register(tmp_path)
    (fault,) = check_dataset("mine").faults
    assert fault.file == str(path)
    with pytest.raises(ValueError, match=rf"label '{path}'.* {said}"):
        read_everywhere([])


def test_faults_of_files(tmp_path: Path) -> None:
    path = write(tmp_path, [THING], imageHeight=None)
    register(tmp_path)
    with pytest.raises(ValueError, match=rf"'{path}' has no imageHeight and imageWidth, got \(No"):
        read_everywhere([])
    write(tmp_path, [THING], size=(4, 5))
    with pytest.raises(ValueError, match=rf"'{path}' has \(height, width\) \(4, 5\), but its im"):
        read_everywhere([])
    path.write_text('{"shapes": 3}')
    with pytest.raises(ValueError, match=rf"'{path}' is not of LabelMe: it has no list of shapes"):
        read_everywhere([])
    path.write_text("{")
    with pytest.raises(ValueError, match=rf"cannot read the label '{path}': it is no JSON"):
        read_everywhere([])
    with pytest.raises(ValueError, match=r"has polygons with names: register .* label_suffix='.js"):
        read_label(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_suffix": (".json", ".png")}, "label_suffix '.json' must be alone"),
        ({"reduce_zero_label": True}, "reduce_zero_label is of label pictures"),
        ({"label_suffix": ".png"}, "background 'ground' is of LabelMe's files, but label_suffix"),
        ({"background": "grund"}, "background must be a class name .the nearest is 'ground'"),
        ({"label_values": {0: "ground"}}, "label_values must be of the names of polygons, got 0"),
        ({"label_values": {}}, "label_values must be a dict from names to classes, got {}"),
        ({"ignore_label": 1}, "ignore_label 1 is one of the 3 classes"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        register(tmp_path, **options)
    assert "mine" not in DatasetCatalog
