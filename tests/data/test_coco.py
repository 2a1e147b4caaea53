"""COCO's files of instances, stuff and panoptic segments as semantic labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from PIL import Image
from pycocotools import mask as rle

from ifa_d2.data import SemSegMapper, register_coco_sem_seg, register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from ifa_d2.demo import Drawing, Segmenter, View
from ifa_d2.demo.sources import dataset_pictures
from ifa_d2.engine.build import build_model
from tests.data.readers import read_everywhere
from tests.tiny import tiny_config

CLASSES = ("ground", "cat", "dog")
CATEGORIES = [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 7, "name": "bird"}]
IMAGE = {"id": 11, "file_name": "a.png", "height": 3, "width": 5}
LARGE = {"id": 1, "image_id": 11, "category_id": 3, "segmentation": [[1, 0, 5, 0, 5, 2, 1, 2]]}
SMALL = {"id": 2, "image_id": 11, "category_id": 90, "segmentation": [[2, 1, 4, 1, 4, 3, 2, 3]]}


def write(root: Path, annotations: list, **changes: Any) -> dict:
    """One picture and its JSON; the arguments of their registration."""
    Image.new("RGB", (5, 3)).save(root / "a.png")
    content = {"images": [IMAGE], "categories": CATEGORIES, "annotations": annotations}
    path = root / "instances.json"
    path.write_text(json.dumps(content | changes))
    return {"json_file": path, "image_root": root, "classes": CLASSES, "background": "ground"}


def test_the_smaller_lies_above_unless_order_counts(tmp_path: Path) -> None:
    options = write(tmp_path, [SMALL, LARGE])
    register_coco_sem_seg("mine", **options)
    read_everywhere([[0, 2, 2, 2, 2], [0, 2, 1, 1, 2], [0, 0, 1, 1, 0]])
    register_coco_sem_seg("ordered", **options, overlap="order")
    (record,) = DatasetCatalog.get("ordered")
    sample = SemSegMapper(is_train=True)(record)
    assert sample["sem_seg"].tolist() == [[0, 2, 2, 2, 2], [0, 2, 2, 2, 2], [0, 0, 1, 1, 0]]
    assert "sem_seg_annotations" not in sample and "sem_seg_annotations" in record


def test_of_equal_ones_the_later_lies_above(tmp_path: Path) -> None:
    register_coco_sem_seg("mine", **write(tmp_path, [LARGE, LARGE | {"id": 9, "category_id": 90}]))
    read_everywhere([[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize("compressed", [False, True])
def test_masks_of_crowds_and_stuff(tmp_path: Path, compressed: bool) -> None:
    """Run lengths go down the columns, background first."""
    mask: dict = {"size": [3, 5], "counts": [3, 2, 10]}
    if compressed:
        mask = rle.frPyObjects(mask, 3, 5)
        mask["counts"] = mask["counts"].decode()
    crowd = LARGE | {"segmentation": mask, "iscrowd": 1}
    register_coco_sem_seg("mine", **write(tmp_path, [crowd, SMALL]) | {"background": None})
    read_everywhere([[255, 2, 255, 255, 255], [255, 2, 1, 1, 255], [255, 255, 1, 1, 255]])


def test_several_polygons_of_one_annotation_are_united(tmp_path: Path) -> None:
    parts = [[0, 0, 1, 0, 1, 1, 0, 1], [4, 2, 5, 2, 5, 3, 4, 3]]
    register_coco_sem_seg("mine", **write(tmp_path, [LARGE | {"segmentation": parts}]))
    read_everywhere([[2, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 2]])


def test_categories_are_put_together_and_left_out(tmp_path: Path) -> None:
    bird = SMALL | {"category_id": 7}
    options = write(tmp_path, [LARGE, bird])
    register_coco_sem_seg("mine", **options, label_values={"dog": 1, "cat": "cat", "bird": None})
    read_everywhere([[0, 1, 1, 1, 1], [0, 1, 255, 255, 1], [0, 0, 255, 255, 0]])


def test_pictures_without_annotation_are_background_and_stay(tmp_path: Path) -> None:
    """Also where Detectron2 leaves out pictures without instances."""
    Image.new("RGB", (2, 1)).save(tmp_path / "b.png")
    other = {"id": 2, "file_name": "b.png", "height": 1, "width": 2}
    register_coco_sem_seg("mine", **write(tmp_path, [LARGE], images=[IMAGE, other]))
    records = get_detection_dataset_dicts("mine", filter_empty=True)
    assert [one["image_id"] for one in records] == [2, 11]
    assert SemSegMapper(is_train=True)(records[0])["sem_seg"].tolist() == [[0, 0]]
    report = check_dataset("mine")
    assert report.ok and [one.images for one in report.classes] == [2, 0, 1]


def test_the_demo_draws_the_same_truth(tmp_path: Path) -> None:
    register_coco_sem_seg("mine", **write(tmp_path, [LARGE]))
    cfg = tiny_config(tmp_path / "out")
    segmenter = Segmenter(cfg, build_model(cfg, pretrained=False), View())
    (picture,) = dataset_pictures("mine", 1)
    _, truth = Drawing(segmenter, MetadataCatalog.get("mine")).read(picture)
    assert truth.tolist() == [[0, 2, 2, 2, 2], [0, 2, 2, 2, 2], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("annotations", "changes", "said"),
    [
        ([LARGE | {"category_id": 7}], {}, "holds the name 'bird' in category 7, which is none of"),
        ([LARGE | {"category_id": 8}], {}, "annotations of the category 8, which its"),
        ([LARGE | {"image_id": 5}], {}, "annotation 1 is of the image 5, which is not in its list"),
        (
            [LARGE | {"segmentation": []}],
            {},
            r"annotation 1 of '.*a.png' has no segmentation",
        ),
        ([LARGE | {"segmentation": [[1, 1, 2, 2]]}], {}, "has a polygon of less than 3 points"),
        (
            [LARGE | {"segmentation": {"size": [5, 3], "counts": [15]}}],
            {},
            r"has a mask of \(height, width\) \[5, 3\], but its image has \[3, 5\]",
        ),
        ([], {"images": [IMAGE, IMAGE]}, "has two images of the id 11"),
        ([], {"images": [IMAGE | {"file_name": "b.png"}]}, "1 files that .* not there: .*b.png"),
        ([], {"images": []}, "has no images"),
        ([], {"images": [{"id": 1}]}, "is not of COCO's format: KeyError"),
    ],
)
def test_faults_are_named(tmp_path: Path, annotations: list, changes: dict, said: str) -> None:
    options = write(tmp_path, annotations, **changes)
    register_coco_sem_seg("mine", **options)
    with pytest.raises(ValueError, match=said) as caught:
        DatasetCatalog.get("mine")
    assert str(options["json_file"]) in str(caught.value)


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    register_coco_sem_seg("mine", **write(tmp_path, [], images=[IMAGE | {"height": 4}]))
    (fault,) = (one for one in check_dataset("mine").faults if "its record says" in one.problem)
    assert fault.file == str(tmp_path / "a.png")
    (record,) = DatasetCatalog.get("mine")
    with pytest.raises(ValueError, match=r"a\.png"):
        SemSegMapper(is_train=True)(record)


def test_no_json(tmp_path: Path) -> None:
    options = write(tmp_path, [])
    register_coco_sem_seg("mine", **options)
    options["json_file"].write_text("[")
    with pytest.raises(ValueError, match=r"instances.json': it is no JSON"):
        DatasetCatalog.get("mine")
    options["json_file"].write_text("[]")
    with pytest.raises(ValueError, match=r"instances.json' is not of COCO's format"):
        DatasetCatalog.get("mine")
    options["json_file"].unlink()
    with pytest.raises(FileNotFoundError, match=r"instances\.json"):
        DatasetCatalog.get("mine")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overlap": "none"}, r"overlap must be one of \('area', 'order'\), got 'none'"),
        ({"background": "grnd"}, "background must be a class name .the nearest is 'ground'"),
        ({"classes": ["a", "a"]}, "classes must be a list of different names"),
        ({"ignore_label": 2}, "ignore_label 2 is one of the 3 classes"),
    ],
)
def test_bad_arguments(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        register_coco_sem_seg("mine", **write(tmp_path, []) | change)
    assert "mine" not in DatasetCatalog


def test_the_same_registration_again(tmp_path: Path) -> None:
    options = write(tmp_path, [])
    register_coco_sem_seg("mine", **options)
    register_coco_sem_seg("mine", **options)
    with pytest.raises(ValueError, match="'mine' is registered already"):
        register_coco_sem_seg("mine", **options, overlap="order")


def panoptic(root: Path, ids: list, segments: list, **changes: Any) -> dict:
    """One panoptic picture of segment ids, and its JSON."""
    pixels = np.array(ids)[..., None] // np.array([1, 256, 65536]) % 256
    (root / "pan").mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(root / "pan" / "a_pan.png")
    annotation = {"image_id": 11, "file_name": "a_pan.png", "segments_info": segments}
    options = write(root, [annotation], **changes)
    return options | {"panoptic_root": root / "pan"}


IDS = [[0, 70000, 70000, 300, 300], [0, 70000, 2, 300, 300], [0, 0, 2, 2, 0]]
SEGMENTS = [
    {"id": 70000, "category_id": 90},
    {"id": 300, "category_id": 3, "isthing": 1},
    {"id": 2, "category_id": 90},
]


def test_panoptic_segments(tmp_path: Path) -> None:
    register_coco_sem_seg("mine", **panoptic(tmp_path, IDS, SEGMENTS) | {"background": None})
    read_everywhere([[255, 1, 1, 2, 2], [255, 1, 1, 2, 2], [255, 255, 1, 1, 255]])


def test_a_segment_that_the_json_lacks(tmp_path: Path) -> None:
    register_coco_sem_seg("mine", **panoptic(tmp_path, IDS, SEGMENTS[:2]))
    (fault,) = check_dataset("mine").faults
    assert fault.file.endswith("a_pan.png")
    assert "(2, 0, 0) at row 1, column 2, which the segments of image 11" in fault.problem


def test_panoptic_pictures_that_are_missing(tmp_path: Path) -> None:
    options = panoptic(tmp_path, IDS, SEGMENTS, images=[IMAGE, IMAGE | {"id": 12}])
    register_coco_sem_seg("mine", **options)
    with pytest.raises(ValueError, match="has 1 images without annotation: 12"):
        DatasetCatalog.get("mine")
    panoptic(tmp_path, IDS, SEGMENTS)
    (tmp_path / "pan" / "a_pan.png").unlink()
    with pytest.raises(ValueError, match=r"1 files that .* are not there: .*a_pan.png"):
        DatasetCatalog.get("mine")


def test_pixel_maps_of_coco_stuff_are_label_files(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Their values are categories' ids minus 1; 255 is unlabelled."""
    write_pair = request.getfixturevalue("write")
    write_pair(size=(1, 4), label=np.array([[0, 17, 181, 255]], np.uint8))
    values = {0: "ground", 17: "cat", 181: "dog"}
    roots = tmp_path / "images", tmp_path / "labels"
    register_sem_seg_folder("mine", *roots, CLASSES, label_values=values)
    read_everywhere([[0, 1, 2, 255]])
