"""From a folder of one's own to a recipe."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import read_record_label
from ifa_d2.engine.run import load_config

COMMAND = Path(__file__).parents[2] / "tools" / "prepare_datasets.py"
RNG = np.random.default_rng(0)
LABEL = np.kron([[0, 255], [255, 0]], np.ones((24, 32))).astype(np.uint8)


@pytest.fixture(autouse=True)
def catalogs() -> Iterator[None]:
    """Forget the data sets that a recipe registered."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command's main in this process, in an empty folder."""
    main = runpy.run_path(str(COMMAND))["main"]
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        values = ["folder", *arguments, "--workers", 1]
        monkeypatch.setattr(sys, "argv", ["prepare_datasets.py", *map(str, values)])
        return main()

    return run


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder of six photographs and masks of 0 and 255."""
    root = tmp_path / "my leaves"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(6):
        pixels = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(LABEL).save(root / "masks" / f"{index}_mask.png")
    return root


def labels(name: str) -> list[list]:
    return [read_record_label(one)[::24, ::32].tolist() for one in DatasetCatalog.get(name)]


def test_masks_become_a_recipe_that_trains(
    prepare: Callable[..., int], masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert prepare(masks, "--classes", "ground", "leaf", "--freeze") == 0
    said = capsys.readouterr().out
    assert "found 6 images with labels (5 train, 1 val)" in said
    assert "labels: masks of 0 and 255; 2 classes" in said and "48x64 (6); shown at 48" in said
    assert said.endswith("next: python tools/train_net.py --config-file my_leaves.py\n")
    assert "it trains for 1600 iterations" in said
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"my_leaves.py", "my_leaves_train.csv", "my_leaves_val.csv", "my_leaves.png"}
    assert (tmp_path / "my_leaves_val.csv").read_text() == (
        "image,label\nimages/4.png,masks/4_mask.png\n"
    )
    with Image.open(tmp_path / "my_leaves.png") as sheet:
        assert sheet.width > 2 * 2 * 448 and sheet.height > 3 * 336
    cfg = load_config("my_leaves.py")
    assert cfg.model.backbone.frozen and not cfg.model.sem_seg_head.aux_heads
    assert (cfg.train.max_iter, cfg.dataloader.train.mapper.point_balance) == (1600, 0.5)
    assert cfg.model.sem_seg_head.num_classes == 2
    assert labels("my_leaves_train") == [[[0, 1], [1, 0]]] * 5
    assert MetadataCatalog.get("my_leaves_val").stuff_classes == ["ground", "leaf"]
    records = instantiate(cfg.dataloader.train.dataset)
    sample = instantiate(cfg.dataloader.train.mapper)(records[0])
    assert sample["image"].shape == (3, 32, 32) and sample["sem_seg"].shape == (32, 32)
    tested = instantiate(cfg.dataloader.test.mapper)(DatasetCatalog.get("my_leaves_val")[0])
    assert tested["image"].shape == (3, 48, 64)


def test_nothing_is_replaced_unless_it_is_said(
    prepare: Callable[..., int], masks: Path, tmp_path: Path
) -> None:
    (tmp_path / "leaves_val.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"leaves_val\.csv would be replaced: pass --overwrite"):
        prepare(masks, "--output", "leaves.py")
    assert not (tmp_path / "leaves.py").exists()
    (tmp_path / "leaves_val.csv").unlink()
    (tmp_path / "leaves.py").write_text("mine")
    with pytest.raises(ValueError, match=r"leaves\.py would be replaced: pass --overwrite"):
        prepare(masks, "--output", "leaves.py")
    assert (tmp_path / "leaves.py").read_text() == "mine"
    assert prepare(masks, "--output", "leaves.py", "--overwrite", "--short-edge", 40) == 0
    cfg = load_config("leaves.py")
    assert cfg.dataloader.train.mapper.augmentations.short_edge == 40
    # Not even then a file of the data.
    (masks / "images" / "0.png").rename(tmp_path / "0.png")
    (masks / "images" / "0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"output 0\.png would replace the picture"):
        prepare(masks, "--output", "0.py", "--overwrite")


def test_bad_files_are_named_and_the_recipe_stays(
    prepare: Callable[..., int], masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = masks / "images" / "3.png"
    Image.fromarray(RNG.integers(0, 256, (47, 64, 3), dtype=np.uint8)).save(path)
    assert prepare(masks) == 1
    said = capsys.readouterr().out
    assert f"has (height, width) (48, 64), but its image {path} has (47, 64)" in said
    assert "correct the files that are bad" in said
    assert (tmp_path / "my_leaves.py").exists() and not (tmp_path / "my_leaves.png").exists()


def polygon(*sides: int) -> list[list[int]]:
    left, top, right, bottom = sides
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_labelme(prepare: Callable[..., int], masks: Path) -> None:
    shape = {"label": "leaf", "points": polygon(32, 0, 64, 48), "shape_type": "polygon"}
    content = {"imageHeight": 48, "imageWidth": 64, "shapes": [shape]}
    for index in range(6):
        (masks / "images" / f"{index}.json").write_text(json.dumps(content))
    assert prepare(masks / "images", "--output", "polygons.py") == 0
    load_config("polygons.py")
    assert labels("polygons_val") == [[[0, 1], [0, 1]]]


def test_coco(prepare: Callable[..., int], masks: Path, tmp_path: Path) -> None:
    sizes = {"height": 48, "width": 64}
    images = [{"id": 7 * index, "file_name": f"{index}.png", **sizes} for index in range(6)]
    flat = [float(side) for point in polygon(0, 24, 64, 48) for side in point]
    annotations = [
        {"id": index, "image_id": one["id"], "category_id": 9, "segmentation": [flat]}
        for index, one in enumerate(images)
    ]
    categories = [{"id": 9, "name": "leaf"}, {"id": 1, "name": "none"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = tmp_path / "all.json"
    path.write_text(json.dumps(content))
    assert prepare(masks / "images", path, "--output", "boxes.py") == 0
    load_config("boxes.py")
    assert MetadataCatalog.get("boxes_train").stuff_classes == ["background", "leaf"]
    assert labels("boxes_train") == [[[0, 0], [1, 1]]] * 5
    (record,) = DatasetCatalog.get("boxes_val")
    assert record["file_name"] == str(masks / "images" / "4.png")


def test_a_name_that_is_taken_by_a_published_set(prepare: Callable[..., int], masks: Path) -> None:
    assert prepare(masks, "--output", "camvid.py") == 0
    assert load_config("camvid.py").dataloader.train.dataset.names == "my_camvid_train"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["camvid", "ROOT", "--freeze"], "--freeze is not an option of camvid"),
        (["camvid", "ROOT", "OTHER"], "camvid takes one ROOT, got 2"),
        (["folder", "PATH", "--allow-partial"], "--allow-partial is not an option of folder"),
    ],
)
def test_options_of_the_other_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare_datasets.py", *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(str(COMMAND))["main"]()
    assert said in capsys.readouterr().err


def test_values_out_of_range(prepare: Callable[..., int], masks: Path) -> None:
    for arguments, said in (
        (("--short-edge", 8), "short_edge must be at least 32 pixels, got 8"),
        (("--output", "leaves.yaml"), r"output must end in .py, got 'leaves.yaml'"),
        (("--classes", "one"), "classes must be 2 names, for masks of 0 and 255, got 1: one"),
    ):
        with pytest.raises(ValueError, match=said):
            prepare(masks, *arguments)
