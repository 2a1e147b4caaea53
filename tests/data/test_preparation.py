"""Label files of the published data sets, made in this process from miniatures of them."""

import dataclasses
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image
from scipy.io import loadmat, savemat

from ifa_d2.data import read_label
from ifa_d2.data.builtin import CONTEXT_CLASSES
from ifa_d2.data.preparation import PREPARATIONS, prepare
from ifa_d2.data.preparation.pascal_context import class_table, read_names
from tests.data import miniatures

MAKERS = {
    "cityscapes": miniatures.make_cityscapes,
    "ade20k": miniatures.make_ade20k,
    "pascal_context": miniatures.make_pascal_context,
    "camvid": miniatures.make_camvid_segnet,
    "crackforest": miniatures.make_crackforest,
}


def counts_of(dataset: str) -> dict[str, int]:
    if dataset == "camvid":
        return {**miniatures.COUNTS, "test": 1}
    return miniatures.CRACKFOREST_COUNTS if dataset == "crackforest" else miniatures.COUNTS


def prepare_all(dataset: str, root: Path) -> None:
    for preparation in PREPARATIONS[dataset]:
        counts = prepare(preparation, root, allow_partial=True)
        assert counts == counts_of(dataset)


def stamps(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_published_numbers() -> None:
    numbers = {name: tuple(PREPARATIONS[name][0].counts.values()) for name in PREPARATIONS}
    assert numbers == {
        "cityscapes": (2975, 500),
        "ade20k": (20210, 2000),
        "pascal_context": (4998, 5105),
        "camvid": (367, 101, 233),
        "crackforest": (89, 29),
        "cityscapes_panoptic": (2975, 500),
        "coco_panoptic": (118287, 5000),
    }
    sizes = [p.num_classes for name in PREPARATIONS for p in PREPARATIONS[name]]
    assert sizes == [19, 150, 60, 59, 11, 2, 19, 12, 54]


@pytest.mark.parametrize("name", PREPARATIONS)
def test_preparations_can_be_sent_to_processes(name: str) -> None:
    """As spawned ones need them, and forked ones their functions."""
    for preparation in PREPARATIONS[name]:
        assert pickle.loads(pickle.dumps(preparation)).counts == preparation.counts


@pytest.mark.parametrize("label_ids", [True, False])
def test_cityscapes_are_those_of_cityscapesscripts(tmp_path: Path, label_ids: bool) -> None:
    root = miniatures.make_cityscapes(tmp_path, label_ids=label_ids)
    prepare_all("cityscapes", root)
    polygons = sorted(root.rglob("*_polygons.json"))
    assert len(polygons) == 6
    seen = set()
    for path in polygons:
        for kind, encoding in (("labelTrainIds", "trainIds"), ("labelIds", "ids")):
            json2labelImg(str(path), str(tmp_path / "expected.png"), encoding)
            made = read_label(str(path).replace("polygons.json", f"{kind}.png"))
            np.testing.assert_array_equal(made, read_label(str(tmp_path / "expected.png")))
            seen |= set(np.unique(made)) if kind == "labelTrainIds" else set()
        instances = read_label(str(path).replace("polygons.json", "instanceIds.png"))
        assert 26000 in instances  # the car's first
    # Neither the licence plate under -1 nor the deleted bus (15) is drawn.
    assert seen == {0, 1, 2, 8, 10, 11, 13, 255}


def test_cityscapes_need_no_polygons_beside_label_pictures(tmp_path: Path) -> None:
    root = miniatures.make_cityscapes(tmp_path / "with")
    shutil.copytree(root, other := tmp_path / "without")
    for path in other.rglob("*_polygons.json"):
        path.unlink()
    prepare_all("cityscapes", root)
    prepare_all("cityscapes", other)
    made = sorted(path.relative_to(root) for path in root.rglob("*_labelTrainIds.png"))
    assert len(made) == 6
    for path in made:
        assert (other / path).read_bytes() == (root / path).read_bytes()


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (("polygons.json", "instanceIds.png"), ["instanceIds.png (or train1_000002"]),
        (("polygons.json", "labelIds.png"), ["labelIds.png (or train1_000002"]),
        (("polygons.json", "labelIds.png", "instanceIds.png"), ["labelIds.png", "instanceIds.png"]),
    ],
)
def test_missing_files_of_cityscapes_are_named(
    tmp_path: Path, removed: tuple[str, ...], named: list[str]
) -> None:
    root = miniatures.make_cityscapes(tmp_path)
    start = root / "cityscapes/gtFine/train/train1/train1_000002_000019_gtFine_"
    for kind in removed:
        Path(f"{start}{kind}").unlink()
    with pytest.raises(ValueError, match="gtFine are missing:") as caught:
        prepare(PREPARATIONS["cityscapes"][0], root, allow_partial=True)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"cityscapes is not complete; {len(named)} file(s) of")
    assert len(lines) == 1 + len(named)
    for line, name in zip(lines[1:], named, strict=True):
        assert line.strip().startswith(f"{start}{name}")


def test_labels_of_cityscapes_without_a_picture_are_named(tmp_path: Path) -> None:
    root = miniatures.make_cityscapes(tmp_path)
    (path,) = root.rglob("train1_000002_000019_leftImg8bit.png")
    path.unlink()
    with pytest.raises(ValueError, match=r"1 annotation.s. without image:\n.*train1_000002"):
        prepare(PREPARATIONS["cityscapes"][0], root, allow_partial=True)


def test_ade20k_ids_are_one_less_and_other_is_ignored(tmp_path: Path) -> None:
    root = miniatures.make_ade20k(tmp_path) / "ADEChallengeData2016"
    prepare_all("ade20k", tmp_path)
    sources = sorted((root / "annotations").rglob("*.png"))
    assert len(sources) == 6
    for source in sources:
        ids = read_label(str(source)).astype(int)
        made = read_label(str(source).replace("annotations", "annotations_detectron2"))
        np.testing.assert_array_equal(made, np.where(ids == 0, 255, ids - 1))
        assert {255, 0, 149} <= set(np.unique(made))


def test_pascal_context_is_mapped_by_name(tmp_path: Path) -> None:
    root = miniatures.make_pascal_context(tmp_path) / "pascal_context"
    prepare_all("pascal_context", tmp_path)
    for source in sorted((root / "trainval").iterdir()):
        ids = loadmat(source)["LabelMap"]
        expected = np.zeros(ids.shape, int)
        for index, name in enumerate(CONTEXT_CLASSES, start=1):
            expected[ids == miniatures.CONTEXT_IDS[name]] = index
        split = "train" if int(source.stem[-1]) < 4 else "val"
        made = read_label(str(root / "annotations_60" / split / f"{source.stem}.png"))
        np.testing.assert_array_equal(made, expected)
        made = read_label(str(root / "annotations_59" / split / f"{source.stem}.png"))
        np.testing.assert_array_equal(made, np.where(expected == 0, 255, expected - 1))
        # Three of them are spelled otherwise in the two lists.
        shown = {CONTEXT_CLASSES[index] for index in np.unique(made) if index != 255}
        assert shown == {"table", "cloth", "sky", "wood"}


def test_pascal_context_lists_must_name_the_classes(tmp_path: Path) -> None:
    root = miniatures.make_pascal_context(tmp_path) / "pascal_context"
    assert (class_table(root) > 0).sum() == 59
    for name, old, new, message in (
        ("59_labels.txt", ": sky", ": heaven", "59 classes; missing: sky; unknown: heaven$"),
        ("59_labels.txt", ": diningtable", ": wood", "lines must be 'id: name', each once"),
        ("59_labels.txt", ": diningtable", ": background", "59 classes; missing: diningtable$"),
        ("59_labels.txt", ": sky\n", ": sky\n99: ufo\n", "59 classes; unknown: ufo$"),
        ("labels.txt", ": wood", ": timber", "labels.txt does not name wood"),
    ):
        other = tmp_path / new.strip(": \n")
        shutil.copytree(root, other)
        text = (other / name).read_text()
        (other / name).write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=message):
            class_table(other)
    (tmp_path / "odd.txt").write_text("1: a\nb\n")
    with pytest.raises(ValueError, match=r"odd.txt: lines must be 'id: name'.* got 'b'"):
        read_names(tmp_path / "odd.txt")


def test_camvid_pairs_are_copied_by_their_lists(tmp_path: Path) -> None:
    root = miniatures.make_camvid_segnet(tmp_path) / "camvid"
    Image.new("RGB", (4, 4)).save(root / "train" / "unlisted.png")
    prepare_all("camvid", tmp_path)
    for split in ("train", "val", "test"):
        sources = sorted((root / f"{split}annot").iterdir())
        for source in sources:
            for kind, folder in (("images", split), ("annotations", f"{split}annot")):
                made, published = root / kind / split / source.name, root / folder / source.name
                np.testing.assert_array_equal(Image.open(made), Image.open(published))
        assert len(list((root / "images" / split).iterdir())) == len(sources)


def test_crackforest_is_road_and_crack(tmp_path: Path) -> None:
    root = miniatures.make_crackforest(tmp_path) / "crackforest"
    Image.new("RGB", (8, 8)).save(root / "image" / "155.jpg")  # without annotation
    prepare(PREPARATIONS["crackforest"][0], tmp_path, allow_partial=True)
    val = [path.stem for path in sorted((root / "images" / "val").iterdir())]
    assert val == ["004", "008"]  # every fourth
    for path in sorted((root / "labels").rglob("*.png")):
        published = loadmat(root / "groundTruth" / f"{path.stem}.mat")["groundTruth"]
        expected = published["Segmentation"][0, 0] > 1
        assert expected.any()
        np.testing.assert_array_equal(read_label(str(path)), expected)
        image = root / "images" / path.parent.name / f"{path.stem}.jpg"
        assert image.read_bytes() == (root / "image" / image.name).read_bytes()


def test_crackforest_names_values_that_it_does_not_know(tmp_path: Path) -> None:
    root = miniatures.make_crackforest(tmp_path) / "crackforest"
    truth = {"groundTruth": {"Segmentation": np.zeros(miniatures.SIZE, np.uint8)}}
    savemat(root / "groundTruth" / "002.mat", truth)
    message = r"002\.mat: .*Segmentation must hold 1 \(road\) to 4 \(crack\), got \[0\]"
    with pytest.raises(ValueError, match=message):
        prepare(PREPARATIONS["crackforest"][0], tmp_path, allow_partial=True)


@pytest.mark.parametrize("dataset", MAKERS)
def test_again_changes_nothing(tmp_path: Path, dataset: str) -> None:
    MAKERS[dataset](tmp_path)
    prepare_all(dataset, tmp_path)
    before = stamps(tmp_path)
    prepare_all(dataset, tmp_path)
    assert stamps(tmp_path) == before
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("dataset", MAKERS)
def test_damaged_and_missing_labels_are_made_anew(tmp_path: Path, dataset: str) -> None:
    MAKERS[dataset](tmp_path)
    prepare_all(dataset, tmp_path)
    root = PREPARATIONS[dataset][0].label_root or "cityscapes/gtFine"
    labels = [path for path in sorted((tmp_path / root).rglob("*.png")) if _is_made(path)]
    contents = [path.read_bytes() for path in labels]
    before = stamps(tmp_path)
    labels[0].write_bytes(contents[0][:50])
    labels[1].unlink()
    Image.new("L", (3, 3)).save(labels[2])
    leftover = labels[0].with_name(f".{labels[0].name}.123.tmp")
    leftover.write_bytes(b"half")
    prepare_all(dataset, tmp_path)
    assert [path.read_bytes() for path in labels] == contents
    after = stamps(tmp_path)
    assert after.keys() == before.keys()
    assert {path for path in labels if after[path] != before[path]} == set(labels[:3])


def _is_made(path: Path) -> bool:
    return "gtFine" not in path.parts or path.name.endswith("labelTrainIds.png")


@pytest.mark.parametrize("dataset", MAKERS)
def test_what_is_missing_is_listed_with_its_origin(tmp_path: Path, dataset: str) -> None:
    preparation = PREPARATIONS[dataset][0]
    with pytest.raises(ValueError) as caught:
        prepare(preparation, tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{preparation.name} is not complete, missing in {tmp_path} are"
    assert len(lines) == 1 + len(preparation.sources)
    assert all("  from " in line and "http" in line for line in lines[1:])
    with pytest.raises(ValueError, match="nowhere' is not a folder"):
        prepare(preparation, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("cityscapes", "cityscapes"),
        ("cityscapes_panoptic", "cityscapes"),
        ("ade20k", "ADEChallengeData2016"),
        ("pascal_context", "VOCdevkit"),
        ("pascal_context", "pascal_context"),
        ("camvid", "camvid"),
    ],
)
def test_a_root_that_is_the_data_set_itself_is_told(
    tmp_path: Path, dataset: str, folder: str
) -> None:
    MAKERS[dataset.removesuffix("_panoptic")](tmp_path)
    root = tmp_path / folder
    with pytest.raises(ValueError, match="missing in") as caught:
        prepare(PREPARATIONS[dataset][0], root)
    hint = "is the data set's own folder: ROOT is the folder above it"
    assert str(caught.value).splitlines()[-1] == f"{root} {hint}, {tmp_path}"
    other = root.rename(tmp_path / "other")
    with pytest.raises(ValueError, match=rf"{hint}, one that holds it as {folder}/"):
        prepare(PREPARATIONS[dataset][0], other)


def test_workers_are_looked_at_before_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        prepare(PREPARATIONS["camvid"][0], tmp_path / "nowhere", workers=0)


def test_wrong_numbers_are_an_error_unless_allowed(tmp_path: Path) -> None:
    miniatures.make_ade20k(tmp_path)
    (preparation,) = PREPARATIONS["ade20k"]
    with pytest.raises(ValueError, match="has 4 of 20210 images of train and 2 of 2000 images"):
        prepare(preparation, tmp_path)
    assert not list(tmp_path.rglob("annotations_detectron2*"))
    exact = dataclasses.replace(preparation, counts=miniatures.COUNTS)
    assert prepare(exact, tmp_path, workers=2) == miniatures.COUNTS


def test_more_images_later_are_added(tmp_path: Path) -> None:
    miniatures.make_ade20k(tmp_path, {"train": 2, "val": 1})
    prepare(PREPARATIONS["ade20k"][0], tmp_path, allow_partial=True)
    before = stamps(tmp_path / "ADEChallengeData2016" / "annotations_detectron2")
    miniatures.make_ade20k(tmp_path)
    prepare_all("ade20k", tmp_path)
    after = stamps(tmp_path / "ADEChallengeData2016" / "annotations_detectron2")
    assert len(after) == 6 and len(before) == 3
    assert {path for path in before if after[path] == before[path]} >= set(sorted(before)[:2])


@pytest.mark.parametrize(
    ("dataset", "removed", "message"),
    [
        ("ade20k", "annotations/training/ADE_train_00000002.png", "1 image.s. without annotation"),
        ("ade20k", "images/validation/ADE_val_00000001.jpg", "1 annotation.s. without image"),
        ("pascal_context", "trainval/2008_000003.mat", "1 file.s. of its lists are missing"),
        ("camvid", "val/0001TP_000001.png", "1 file.s. of its lists are missing"),
    ],
)
def test_files_without_partner_are_named(
    tmp_path: Path, dataset: str, removed: str, message: str
) -> None:
    MAKERS[dataset](tmp_path)
    (path,) = (path for path in tmp_path.rglob("*.*") if str(path).endswith(removed))
    path.unlink()
    with pytest.raises(ValueError, match=message) as caught:
        prepare(PREPARATIONS[dataset][0], tmp_path, allow_partial=True)
    assert Path(removed).stem.split("_gtFine")[0] in str(caught.value)


@pytest.fixture
def bad_annotations(tmp_path: Path) -> tuple[list[Path], str]:
    """The annotations of PASCAL Context, the first four of them bad, and the error."""
    root = miniatures.make_pascal_context(tmp_path) / "pascal_context"
    files = sorted((root / "trainval").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:150])
    savemat(files[1], {"LabelMap": np.full(miniatures.SIZE, 460, np.uint16)})
    savemat(files[2], {"LabelMap": np.full((5, 7), 2, np.uint16)})
    savemat(files[3], {"Something": np.zeros(1)})
    with pytest.raises(ValueError) as caught:
        prepare(PREPARATIONS["pascal_context"][0], tmp_path, allow_partial=True)
    return files, str(caught.value)


def test_bad_annotations_are_named(bad_annotations: tuple[list[Path], str]) -> None:
    files, message = bad_annotations
    header, *lines = message.splitlines()
    assert "4 of 6 images cannot be used" in header
    assert [line.count(str(file)) for file, line in zip(files, lines, strict=False)] == [1] * 4


def test_faults_of_annotations_are_told(bad_annotations: tuple[list[Path], str]) -> None:
    files, message = bad_annotations
    lines = message.splitlines()
    assert "its ids must be 0..459, got 460..460" in lines[2]
    assert "(5, 7), but its image" in lines[3] and "(60, 80)" in lines[3]
    assert lines[4] == f"  {files[3]}: cannot be read: it has no 'LabelMap'"
    assert not [trace for trace in ("Error(", "SystemExit", ".partial") if trace in message]


@pytest.mark.usefixtures("bad_annotations")
def test_nothing_is_published_of_bad_annotations(tmp_path: Path) -> None:
    root = tmp_path / "pascal_context"
    assert not (root / "annotations_60").exists()
    assert len(list((root / "annotations_60.partial").rglob("*.png"))) == 3


def test_ids_that_are_no_class_are_named(tmp_path: Path) -> None:
    root = miniatures.make_ade20k(tmp_path)
    path = root / "ADEChallengeData2016" / "annotations" / "training" / "ADE_train_00000003.png"
    Image.fromarray(np.full(miniatures.SIZE, 151, np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"{path}: .*it holds 151: ids must be 0..150"):
        prepare(PREPARATIONS["ade20k"][0], tmp_path, allow_partial=True)
    path = miniatures.make_camvid_segnet(tmp_path) / "camvid" / "valannot" / "0001TP_000001.png"
    Image.fromarray(np.full(miniatures.SIZE, 12, np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf"  label '{path}' holds 12: .* 11 classes") as caught:
        prepare(PREPARATIONS["camvid"][0], tmp_path, allow_partial=True)
    assert ".partial" not in str(caught.value)


def test_damaged_files_of_camvid_are_named_as_published(tmp_path: Path) -> None:
    """Once each, by the name under which the user has them."""
    root = miniatures.make_camvid_segnet(tmp_path) / "camvid"
    label, image = root / "trainannot" / "0001TP_000001.png", root / "val" / "0001TP_000000.png"
    small = root / "train" / "0001TP_000002.png"
    label.write_bytes(b"no picture")
    image.write_bytes(b"no picture")
    Image.new("RGB", (5, 7)).save(small)
    with pytest.raises(ValueError) as caught:
        prepare(PREPARATIONS["camvid"][0], tmp_path, allow_partial=True)
    assert str(caught.value).splitlines()[1:] == [
        f"  cannot read the label '{label}': cannot identify image file",
        f"  {root / 'trainannot' / small.name}: has (height, width) (60, 80), but its image "
        f"{small} has (7, 5)",
        f"  cannot read the image '{image}': cannot identify image file",
    ]


def test_unknown_polygons_are_named(tmp_path: Path) -> None:
    root = miniatures.make_cityscapes(tmp_path, label_ids=False)
    path = sorted(root.rglob("*_polygons.json"))[0]
    content = json.loads(path.read_text())
    content["objects"][0]["label"] = "spaceship"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"1 of 6 images .*\n.*{path}: .* has not: spaceship$"):
        prepare(PREPARATIONS["cityscapes"][0], tmp_path, allow_partial=True)
    content["objects"][0]["deleted"] = 1  # then it is not drawn
    path.write_text(json.dumps(content))
    prepare_all("cityscapes", tmp_path)


def test_labels_of_no_image_are_named(tmp_path: Path) -> None:
    root = miniatures.make_pascal_context(tmp_path) / "pascal_context"
    prepare_all("pascal_context", tmp_path)
    stray = root / "annotations_60" / "val" / "2010_009999.png"
    os.link(root / "annotations_60" / "val" / "2008_000004.png", stray)
    with pytest.raises(ValueError, match=rf"1 label file.s. belong to no image.*\n  {stray}"):
        prepare(PREPARATIONS["pascal_context"][0], tmp_path, allow_partial=True)
