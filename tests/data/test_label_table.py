"""Labels as people have them: colours, masks, other ids, and more classes than a byte holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import (
    SemSegMapper,
    build_sem_seg_augmentations,
    read_label,
    register_sem_seg_folder,
)
from ifa_d2.data.check import check_dataset
from ifa_d2.data.content import check_label_content
from tests.data.readers import read_everywhere

CLASSES = ("ground", "thing", "other")
GROUND, THING, VOID = (0, 0, 0), (250, 3, 128), (255, 255, 255)
COLORS = {GROUND: "ground", THING: 1, VOID: None}
COLOURED = np.array([[GROUND, THING, VOID], [THING, THING, GROUND]], np.uint8)
MEANT = [[0, 1, 255], [1, 1, 0]]


def register(root: Path, classes: tuple[str, ...] = CLASSES, **options: object) -> None:
    register_sem_seg_folder("mine", root / "images", root / "labels", classes, **options)


def test_colours(write, tmp_path: Path) -> None:
    write(size=(2, 3), label=COLOURED)
    register(tmp_path, label_values=COLORS)
    read_everywhere(MEANT)
    assert MetadataCatalog.get("mine").stuff_colors[:2] == [list(GROUND), list(THING)]


@pytest.mark.parametrize("form", ["RGBA", "P", "bmp", "tif", "webp"])
def test_colours_of_every_form(write, tmp_path: Path, form: str) -> None:
    _, path = write(size=(2, 3), label=COLOURED)
    image = Image.fromarray(COLOURED)
    if form in ("RGBA", "P"):
        image.convert(form, palette=Image.Palette.ADAPTIVE).save(path)
        with Image.open(path) as saved:
            assert saved.mode == form
        register(tmp_path, label_values=COLORS)
    else:
        path.unlink()
        image.save(path.with_suffix(f".{form}"), **{"lossless": True} if form == "webp" else {})
        register(tmp_path, label_values=COLORS, label_suffix=(".png", f".{form}"))
    read_everywhere(MEANT)


def test_several_colours_of_a_class_and_grey_files(write, tmp_path: Path) -> None:
    write(size=(1, 3), label=np.array([[7, 9, 9]], np.uint8))
    register(tmp_path, label_values={(7, 7, 7): 0, (9, 9, 9): 1, (250, 0, 0): 1})
    read_everywhere([[0, 1, 1]])


def test_an_unknown_colour_is_named_with_its_place(write, tmp_path: Path) -> None:
    pixels = COLOURED.copy()
    pixels[1, 1], pixels[1, 2] = (251, 3, 128), (1, 1, 1)
    _, path = write(size=(2, 3), label=pixels)
    register(tmp_path, label_values=COLORS)
    said = (
        rf"label '{path}' holds the colour \(251, 3, 128\) at row 1, column 1, which label_values "
        r"lacks, and 1 more colours that are not in it: give it a class there, or None"
    )
    with pytest.raises(ValueError, match=said):
        check_label_content("mine")  # as at the start of a training
    (record,) = DatasetCatalog.get("mine")
    with pytest.raises(ValueError, match=said):
        SemSegMapper(is_train=True)(record)
    (fault,) = check_dataset("mine").faults
    assert fault.file == str(path) and "(251, 3, 128) at row 1, column 1" in fault.problem
    assert not json.loads(json.dumps(check_dataset("mine").to_dict()))["ok"]


def test_colours_that_a_file_does_not_keep(write, tmp_path: Path) -> None:
    _, path = write(size=(2, 3), label=COLOURED)
    register(tmp_path, label_values=COLORS)
    table = MetadataCatalog.get("mine").label_table
    with pytest.raises(ValueError, match=rf"label '{path}' holds colours .*label_values="):
        read_label(path)
    Image.fromarray(np.dstack([COLOURED, np.full((2, 3), 9, np.uint8)])).save(path)
    with pytest.raises(ValueError, match=rf"label '{path}' has transparent pixels"):
        read_label(path, table=table)
    lossy = path.with_suffix(".jpg")
    Image.fromarray(COLOURED).save(lossy)
    with pytest.raises(ValueError, match=rf"label '{lossy}' is a JPEG"):
        read_label(lossy, table=table)
    Image.fromarray(np.zeros((2, 3), np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"label '{path}' has 1 band of uint16.*8-bit colours"):
        read_label(path, table=table)


def test_masks_of_0_and_255(write, tmp_path: Path) -> None:
    write(size=(2, 2), label=np.array([[0, 255], [255, 255]], np.uint8))
    register(tmp_path, ("ground", "thing"), label_values={0: "ground", 255: "thing"})
    read_everywhere([[0, 1], [1, 1]])


def test_ids_are_remapped(write, tmp_path: Path) -> None:
    """As Cityscapes' 34 ids are to 19 classes; 255 stays ignored, as ignore_label says."""
    write(size=(2, 3), label=np.array([[7, 8, 11], [33, 8, 255]], np.uint8))
    register(tmp_path, label_values={7: "thing", 8: "ground", 11: None, 33: "other"})
    read_everywhere([[1, 0, 255], [2, 0, 255]])


def test_ids_of_16_bits_are_remapped(write, tmp_path: Path) -> None:
    write(size=(1, 4), label=np.array([[0, 1000, 65535, 255]], np.uint16))
    register(tmp_path, label_values={0: 0, 1000: 1, 65535: 2})
    read_everywhere([[0, 1, 2, 255]])


def test_an_unknown_id_is_named_with_its_place(write, tmp_path: Path) -> None:
    _, path = write(size=(1, 3), label=np.array([[0, 9, 9]], np.uint8))
    register(tmp_path, label_values={0: 0, 1: 1})
    with pytest.raises(ValueError, match=rf"'{path}' holds the value 9 at row 0, column 1, which"):
        check_label_content("mine")


def test_zero_is_reduced(write, tmp_path: Path) -> None:
    write(size=(1, 5), label=np.array([[0, 1, 2, 3, 255]], np.uint8))
    register(tmp_path, reduce_zero_label=True)
    read_everywhere([[255, 0, 1, 2, 255]])


def test_zero_is_reduced_of_classes_that_fill_a_byte(write, tmp_path: Path) -> None:
    write(size=(1, 3), label=np.array([[0, 254, 255]], np.uint8))
    register(tmp_path, tuple(map(str, range(255))), reduce_zero_label=True)
    read_everywhere([[255, 253, 254]])


def test_a_class_beyond_the_reduced_ones(write, tmp_path: Path) -> None:
    _, path = write(size=(1, 2), label=np.array([[1, 4]], np.uint8))
    register(tmp_path, reduce_zero_label=True)
    with pytest.raises(ValueError, match=rf"'{path}' holds the value 4 .*reduce_zero_label lacks"):
        check_label_content("mine")


@pytest.mark.parametrize("count", [256, 300])
def test_more_classes_than_a_byte_holds(write, tmp_path: Path, count: int) -> None:
    """Class 255 is a class like the others; 65535 is ignored where nothing else is named."""
    label = np.array([[0, 255, count - 1, 65535]], np.uint16)
    write(size=(1, 4), label=label)
    register(tmp_path, tuple(f"class {index}" for index in range(count)))
    assert MetadataCatalog.get("mine").ignore_label == 65535
    read_everywhere([[0, 255, count - 1, 65535]], ignore_value=65535)
    (record,) = DatasetCatalog.get("mine")
    with pytest.raises(ValueError, match=f"ignore_value 255 is one of the {count} classes"):
        SemSegMapper(is_train=True)(record)
    crop = build_sem_seg_augmentations(short_edge=4, crop_size=(8, 32), ignore_value=65535)
    sample = SemSegMapper(is_train=True, augmentations=crop, ignore_value=65535)(record)
    values = set(sample["sem_seg"].unique().tolist())
    assert sample["sem_seg"].shape == (8, 32) and values == {0, 255, count - 1, 65535}


def test_label_value_classes_of_16_bits(write, tmp_path: Path) -> None:
    write(size=(1, 2), label=np.array([[[1, 2, 3], [0, 0, 0]]], np.uint8))
    names = tuple(map(str, range(300)))
    register(tmp_path, names, label_values={(1, 2, 3): 299, (0, 0, 0): 255})
    read_everywhere([[299, 255]], ignore_value=65535)


def test_folders_of_scenes_with_folders_of_their_own(tmp_path: Path) -> None:
    for scene, value in (("s2", 1), ("s1", 2)):
        for kind, name, pixels in (
            ("rgb", "deep/a.jpg", np.zeros((2, 3, 3), np.uint8)),
            ("mask", "deep/a_mask.tif", np.full((2, 3), value, np.uint8)),
        ):
            path = tmp_path / scene / kind / name
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    roots = {"image_root": tmp_path / "*/rgb", "label_root": tmp_path / "*/mask"}
    register_sem_seg_folder("mine", classes=CLASSES, label_suffix="_mask.tif", **roots)
    records = DatasetCatalog.get("mine")
    assert [record["image_id"] for record in records] == ["s1/deep/a", "s2/deep/a"]
    mapper = SemSegMapper(is_train=True)
    assert [int(mapper(record)["sem_seg"].unique()) for record in records] == [2, 1]
    assert MetadataCatalog.get("mine").image_root == str(tmp_path)
    (tmp_path / "s1" / "mask" / "deep" / "a_mask.tif").unlink()
    with pytest.raises(ValueError, match=r"1 image file\(s\) without label: .*s1/rgb/deep/a.jpg"):
        DatasetCatalog.get("mine")
    register_sem_seg_folder("none", tmp_path / "*/nothing", None, CLASSES)
    with pytest.raises(FileNotFoundError, match=r"image folder '.*\*/nothing' does not exist"):
        DatasetCatalog.get("none")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_values": {}}, "label_values must be a dict .*got {}"),
        ({"label_values": {0: 0, (1, 2, 3): 1}}, "ids alone or colours alone, got"),
        ({"label_values": {(0, 0, 256): 0}}, r"colours \(R, G, B\) of 0..255, got \(0, 0, 256\)"),
        ({"label_values": {(0, 0): 0}}, r"got \(0, 0\)"),
        ({"label_values": {-1: 0}}, r"ids 0\.\.65535 or .*got -1"),
        ({"label_values": {True: 0}}, "got True"),
        (
            {"label_values": {3: "thnig"}},
            r"label_values\[3\] must be a class name \(the nearest is 'thing'\), a class id 0\.\.2",
        ),
        ({"label_values": {3: 3}}, r"label_values\[3\] .*a class id 0\.\.2 or None.*got 3"),
        ({"label_values": {3: True}}, r"label_values\[3\] .*got True"),
        ({"label_values": {0: 0}, "reduce_zero_label": True}, "exclude each other"),
        ({"reduce_zero_label": True, "ignore_label": 2}, "ignore_label 2 is one of the 3 classes"),
        ({"label_suffix": (".png", "")}, "label_suffix"),
    ],
)
def test_bad_tables_are_named_and_leave_nothing_behind(
    tmp_path: Path, options: dict, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        register(tmp_path, **options)
    assert "mine" not in DatasetCatalog and "mine" not in MetadataCatalog


def test_a_table_without_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_values is of label files, but label_root is None"):
        register_sem_seg_folder("mine", tmp_path, None, CLASSES, label_values={0: 0})


def test_the_same_table_again_is_the_same_data_set(tmp_path: Path) -> None:
    register(tmp_path, label_values=COLORS)
    register(tmp_path, label_values=dict(COLORS))
    with pytest.raises(ValueError, match="'mine' is registered already"):
        register(tmp_path, label_values=COLORS | {THING: 2})


def test_labels_of_one_class_alone_under_a_table(write, tmp_path: Path) -> None:
    write(size=(1, 2), label=np.array([[0, 255]], np.uint8))
    register(tmp_path, label_values={0: 0, 1: 1})
    with pytest.raises(ValueError, match=r"hold 'ground' alone, of the 3 .*correct label_values"):
        check_label_content("mine")
