"""Folder pairs as data sets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, MetadataCatalog
from PIL import Image
from torch.utils.data import DataLoader

from ifa_d2.data import SemSegMapper, expand_path, register_sem_seg_folder
from ifa_d2.data.check import check_dataset
from ifa_d2.data.registration import default_colors

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = ("ground", "thing", "other")


def _register(root: Path, name: str = "mine", **changes: object) -> None:
    arguments = {
        "image_root": root / "images",
        "label_root": root / "labels",
        "classes": CLASSES,
    } | changes
    register_sem_seg_folder(name, **arguments)


def test_pairs_are_matched_by_their_path_below_the_roots_and_sorted(write, tmp_path):
    for name, size in (("b", (4, 6)), ("town/b", (5, 3)), ("a", (2, 8))):
        write(name, size)
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    (tmp_path / "labels" / "notes.txt").write_text("not a label")
    _register(tmp_path)
    records = DatasetCatalog.get("mine")
    assert [r["image_id"] for r in records] == ["a", "b", "town/b"]
    assert [(r["height"], r["width"]) for r in records] == [(2, 8), (4, 6), (5, 3)]
    assert records[2]["file_name"] == str(tmp_path / "images" / "town" / "b.png")
    assert records[2]["sem_seg_file_name"] == str(tmp_path / "labels" / "town" / "b.png")
    assert {(r["ignore_label"], r["num_classes"]) for r in records} == {(255, 3)}


@pytest.mark.parametrize("name", ["._a", ".ipynb_checkpoints/a", "town/.trash/a"])
@pytest.mark.parametrize("kind", [0, 1])
def test_hidden_files_and_folders_do_not_count(write, tmp_path, name, kind):
    write("a")
    write(name)[kind].unlink()
    _register(tmp_path)
    assert [record["image_id"] for record in DatasetCatalog.get("mine")] == ["a"]


def test_suffixes_tell_images_from_labels_as_in_cityscapes(tmp_path):
    pixels = Image.fromarray(np.zeros((2, 2), np.uint8))
    for name in ("bonn_1_left.png", "bonn_1_ids.png", "bonn_1_color.png"):
        pixels.save(tmp_path / name)
    _register(
        tmp_path,
        image_root=tmp_path,
        label_root=tmp_path,
        image_suffixes="_left.png",
        label_suffix="_ids.png",
    )
    (record,) = DatasetCatalog.get("mine")
    assert record["image_id"] == "bonn_1"
    assert record["sem_seg_file_name"] == str(tmp_path / "bonn_1_ids.png")


def test_metadata(write, tmp_path):
    write()
    _register(tmp_path, colors=[(1, 2, 3), (4, 5, 6), (7, 8, 9)], ignore_label=11)
    metadata = MetadataCatalog.get("mine")
    assert metadata.stuff_classes == list(CLASSES)
    assert metadata.stuff_colors == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert (metadata.ignore_label, metadata.evaluator_type) == (11, "sem_seg")
    assert metadata.image_root == str(tmp_path / "images")
    assert metadata.sem_seg_root == str(tmp_path / "labels")


def test_turned_images_are_listed_in_the_size_that_they_are_read_in(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("L", (4, 8)).save(tmp_path / "labels" / "a.png")
    _register(tmp_path)
    (record,) = DatasetCatalog.get("mine")
    assert (record["height"], record["width"]) == (8, 4)
    assert SemSegMapper(is_train=True)(record)["image"].shape == (3, 8, 4)


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_without_partner_is_named(write, tmp_path, kind):
    write("whole")
    image, label = write("alone")
    kept, removed = (image, label) if kind == "image" else (label, image)
    removed.unlink()
    _register(tmp_path)
    with pytest.raises(ValueError, match=rf"1 {kind} file\(s\) without .*{kept}"):
        DatasetCatalog.get("mine")


def test_images_without_labels(write, tmp_path):
    for name, size in (("b", (4, 6)), ("a", (2, 8))):
        write(name, size)
    _register(tmp_path, label_root=None)
    records = DatasetCatalog.get("mine")
    assert [r["image_id"] for r in records] == ["a", "b"]
    assert [(r["height"], r["width"]) for r in records] == [(2, 8), (4, 6)]
    assert not any("sem_seg_file_name" in record for record in records)
    metadata = MetadataCatalog.get("mine")
    assert metadata.image_root == str(tmp_path / "images")
    assert not hasattr(metadata, "sem_seg_root")


def test_two_images_of_one_name_are_named(write, tmp_path):
    image, _ = write("twice")
    Image.new("RGB", (9, 7)).save(image.with_suffix(".jpg"))
    _register(tmp_path)
    with pytest.raises(ValueError, match=r"two image files of one name.*twice"):
        DatasetCatalog.get("mine")


NFC, NFD = "caf\u00e9/\u00fc", "cafe\u0301/u\u0308"  # the same letters


@pytest.mark.parametrize("names", [(NFC, NFD), (NFD, NFC)])
def test_names_pair_however_their_letters_are_written(write, tmp_path, names):
    image, label = write(names[0])
    other = tmp_path / "labels" / f"{names[1]}.png"
    other.parent.mkdir()
    label.rename(other)
    _register(tmp_path)
    (record,) = DatasetCatalog.get("mine")
    assert record["image_id"] == NFC
    assert (record["file_name"], record["sem_seg_file_name"]) == (str(image), str(other))
    SemSegMapper(is_train=True)(record)


def test_two_names_of_the_same_letters_are_named_apart(write, tmp_path):
    write(NFC)
    write(NFD)
    if len(list((tmp_path / "images").rglob("*.png"))) == 1:
        pytest.skip("this file system takes both names for one")
    _register(tmp_path)
    with pytest.raises(ValueError, match="two image files of one name") as caught:
        DatasetCatalog.get("mine")
    assert ascii(NFC)[1:-1] in str(caught.value) and ascii(NFD)[1:-1] in str(caught.value)


def test_an_image_that_cannot_be_opened_is_named(write, tmp_path):
    image, _ = write("broken")
    image.write_bytes(b"no image")
    _register(tmp_path)
    with pytest.raises(ValueError, match=f"cannot read the image '{image}'"):
        DatasetCatalog.get("mine")


def test_missing_and_empty_folders_are_named(write, tmp_path):
    _register(tmp_path / "nowhere", how_to_get="Ask for it.")
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist. Ask for it."):
        DatasetCatalog.get("mine")
    write()
    (tmp_path / "none").mkdir()
    _register(tmp_path, "empty", label_root=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no label file that ends in .png in .*none"):
        DatasetCatalog.get("empty")


def test_the_same_registration_again_is_fine_and_another_is_not(write, tmp_path):
    write()
    _register(tmp_path)
    _register(tmp_path)
    assert len(DatasetCatalog.get("mine")) == 1
    with pytest.raises(ValueError, match="'mine' is registered already"):
        _register(tmp_path, ignore_label=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": ()}, "classes"),
        ({"classes": "abc"}, "classes"),
        ({"classes": ("a", "a")}, "classes"),
        ({"colors": [(0, 0, 0)]}, "colors"),
        ({"colors": [(0, 0, 256)] * 3}, "colors"),
        ({"colors": [(0, 0)] * 3}, "colors"),
        ({"ignore_label": -1}, "ignore_label"),
        ({"image_suffixes": ()}, "image_suffixes"),
        ({"label_suffix": ""}, "label_suffix"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing_behind(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named):
        _register(tmp_path, **changes)
    assert "mine" not in DatasetCatalog
    assert "mine" not in MetadataCatalog


def test_default_colors_differ():
    colors = default_colors(60)
    assert len(set(colors)) == 60
    assert all(0 <= c <= 255 for color in colors for c in color)


def test_the_datasets_folder_is_read_when_asked_for(write, tmp_path, monkeypatch):
    write()
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert expand_path("$DETECTRON2_DATASETS/a") == "datasets/a"
    _register(
        tmp_path,
        image_root="$DETECTRON2_DATASETS/images",
        label_root="$DETECTRON2_DATASETS/labels",
    )
    assert MetadataCatalog.get("mine").image_root == "datasets/images"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (record,) = DatasetCatalog.get("mine")
    assert record["file_name"] == str(tmp_path / "images" / "a.png")
    assert MetadataCatalog.get("mine").image_root == str(tmp_path / "images")


_RECIPE = """
from detectron2.config import LazyCall as L
from detectron2.data import get_detection_dataset_dicts
from ifa_d2.data import SemSegMapper, register_sem_seg_folder

def prepare():
    pass

register_sem_seg_folder(
    "user_train", {images!r}, {labels!r}, ["ground", "thing", "other"], prepare=prepare
)
dataset = L(get_detection_dataset_dicts)(names="user_train", filter_empty=False)
mapper = L(SemSegMapper)(is_train=True)
"""


def test_one_config_file_registers_a_users_data(write, tmp_path):
    write()
    recipe = tmp_path / "recipe.py"
    roots = {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}
    recipe.write_text(_RECIPE.format(**roots))
    for _ in range(2):
        cfg = LazyConfig.load(str(recipe))
    LazyConfig.save(cfg, str(tmp_path / "saved.yaml"))
    assert len(DatasetCatalog.get("user_train")) == 1
    program = (
        "import sys; from detectron2.config import LazyConfig, instantiate;"
        "print(len(instantiate(LazyConfig.load(sys.argv[1]).dataset)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(recipe)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split()[-1] == "1"


def test_spawned_workers_read_what_their_parent_listed(write, tmp_path):
    label = np.array([[0, 11], [2, 1]], np.uint8)
    write("a", (2, 2), label)
    _register(tmp_path, ignore_label=11)
    data = MapDataset(DatasetFromList(DatasetCatalog.get("mine")), SemSegMapper(is_train=True))
    loader = DataLoader(
        data, batch_size=None, num_workers=1, multiprocessing_context="spawn", collate_fn=dict
    )
    (sample,) = loader
    assert sample["sem_seg"].tolist() == [[0, 255], [2, 1]]


def test_listing_does_not_decode_what_it_lists(write, tmp_path):
    """Which takes 0.1 s for a large PNG; damage is found by the check and when it is read."""
    image, _ = write("a", (40, 50))
    image.write_bytes(image.read_bytes()[:300])
    _register(tmp_path)
    (record,) = DatasetCatalog.get("mine")
    assert (record["height"], record["width"]) == (40, 50)
    (fault,) = check_dataset("mine").faults
    assert fault.file == str(image) and "cannot be read" in fault.problem
    with pytest.raises(ValueError, match=f"cannot read the image '{image}'"):
        SemSegMapper(is_train=True)(record)
