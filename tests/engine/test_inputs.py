"""Data sets of configs, and some of their records."""

import re
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.engine import Trainer
from ifa_d2.engine.inputs import (
    check_datasets,
    check_scales,
    check_training_data,
    choose_records,
    dataset_names,
    picture_input,
)
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.modeling import DiceLoss, WeightedSum
from tests.tiny import tiny_config


def test_data_sets_must_be_known() -> None:
    for recipe, key in (
        ("shapes/ifa_r18.py", "dataloader.{}.dataset.names=nowhere"),
        ("shapes/ifa_r18.yaml", "DATASETS.{}=('nowhere',)"),
    ):
        cfg = load_config(recipe)
        assert dataset_names(cfg, is_train=True) == ["shapes_train"]
        assert dataset_names(cfg, is_train=False) == ["shapes_val"]
        for part in ("train", "test"):
            name = part.upper() if recipe.endswith(".yaml") else part
            wrong = load_config(recipe, [key.format(name)])
            with pytest.raises(ValueError, match=r"dataset must be .*, got 'nowhere'"):
                check_datasets(wrong, is_train=part == "train")
            check_datasets(wrong, is_train=part != "train")


def test_the_head_has_as_many_classes_as_the_data() -> None:
    for recipe, key in (
        ("shapes/ifa_r18.py", "model.sem_seg_head.num_classes"),
        ("shapes/ifa_r18.yaml", "MODEL.SEM_SEG_HEAD.NUM_CLASSES"),
    ):
        for is_train, name in ((True, "shapes_train"), (False, "shapes_val")):
            check_datasets(load_config(recipe), is_train=is_train)
            for count in (12, 14):
                words = rf"^(yacs\.)?{key} must be 13, as many as {name} has classes, got {count}$"
                with pytest.raises(ValueError, match=words):
                    check_datasets(load_config(recipe, [f"{key}={count}"]), is_train=is_train)


def test_classes_of_panoptic_models_and_of_data_without_names_are_not_compared() -> None:
    # Things are one class more to the semantic head.
    for recipe in (
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
        "panoptic/cityscapes/panoptic_ifa_r50.py",
    ):
        cfg = load_config(recipe)
        for is_train in (True, False):
            assert dataset_names(cfg, is_train=is_train)
            check_datasets(cfg, is_train=is_train)
    # The head of a panoptic model on data that a semantic segmentor would have 13 classes for.
    model = ["MODEL.META_ARCHITECTURE=PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=4"]
    check_datasets(load_config("shapes/ifa_r18.yaml", model), is_train=True)
    name = "nameless"
    DatasetCatalog.register(name, lambda: [])
    try:
        key = "dataloader.train.dataset.names"
        check_datasets(load_config("shapes/ifa_r18.py", [f"{key}={name}"]), is_train=True)
    finally:
        DatasetCatalog.remove(name)


@pytest.mark.parametrize(("image_format", "order"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_picture_as_a_models_input(image_format: str, order: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    before = image.copy()
    flip = T.AugmentationList([T.RandomFlip(prob=1.0)])
    inputs = picture_input(image, flip, image_format)
    assert (inputs["height"], inputs["width"]) == (5, 6)
    assert np.array_equal(inputs["image"].numpy(), image[:, ::-1, order].transpose(2, 0, 1))
    plain = picture_input(image, T.AugmentationList([]), image_format, (10, 4))
    assert (plain["height"], plain["width"]) == (10, 4)
    plain["image"].zero_()
    assert np.array_equal(image, before)


def test_records_are_spread_evenly() -> None:
    name = Path(__file__).stem
    DatasetCatalog.register(name, lambda: [{"file_name": f"{i}.png"} for i in range(10)])
    try:
        chosen = [record["file_name"] for record in choose_records(name, 4)]
        assert chosen == ["0.png", "2.png", "5.png", "7.png"]
        assert len(choose_records(name, 11)) == 10
        with pytest.raises(ValueError, match="num must be at least 1, got 0"):
            choose_records(name, 0)
    finally:
        DatasetCatalog.remove(name)
    with pytest.raises(ValueError, match=f"dataset must be .*, got '{name}'"):
        choose_records(name, 1)


def _register(root: Path, name: str, classes: tuple[str, ...], ids: tuple[int, ...]) -> None:
    """Two pictures, whose labels hold the ids in equal stripes."""
    for kind in ("images", "labels"):
        (root / name / kind).mkdir(parents=True)
    for index in range(2):
        label = np.repeat(np.array(ids, np.uint8), 8)[None].repeat(16, 0)
        Image.fromarray(label).save(root / name / "labels" / f"{index}.png")
        picture = np.zeros((*label.shape, 3), np.uint8)
        Image.fromarray(picture).save(root / name / "images" / f"{index}.png")
    register_sem_seg_folder(name, root / name / "images", root / name / "labels", classes)


def _recipe(train: str, test: str) -> list[DictConfig]:
    lazy = [f"dataloader.train.dataset.names={train}", f"dataloader.test.dataset.names={test}"]
    yacs = [f"DATASETS.TRAIN=('{train}',)", f"DATASETS.TEST=('{test}',)"]
    return [
        load_config("shapes/ifa_r18.py", [*lazy, "model.sem_seg_head.num_classes=2"]),
        load_config("shapes/ifa_r18.yaml", [*yacs, "MODEL.SEM_SEG_HEAD.NUM_CLASSES=2"]),
    ]


def test_what_teaches_nothing_is_found_before_training(tmp_path: Path) -> None:
    two = ("road", "crack")
    _register(tmp_path, "sound", two, (0, 1))
    _register(tmp_path, "turned", two[::-1], (0, 1))
    _register(tmp_path, "masks", two, (0, 255))
    _register(tmp_path, "alone", two, (1, 1))
    _register(tmp_path, "hidden", two, (0, 1, 255, 255, 255))
    for train, test, words in (
        ("sound", "turned", "'sound' and 'turned' must have the same classes .* class 0"),
        ("masks", "sound", "'masks': .* look like masks of 0 and 255; register"),
        ("alone", "sound", "'alone': .* one class alone, 'crack'"),
    ):
        for cfg in _recipe(train, test):
            check_datasets(cfg, is_train=True)  # which sees nothing of that
            with pytest.raises(ValueError, match=words):
                check_training_data(cfg)
    for cfg in _recipe("sound", "masks"):
        assert check_training_data(cfg) == []
    for cfg in _recipe("hidden", "sound"):
        (warning,) = check_training_data(cfg)
        assert "'hidden': 60 % of the pixels are 255, which is ignored" in warning


def test_a_label_to_ignore_that_is_a_class_is_found_before_training(tmp_path: Path) -> None:
    _register(tmp_path, "many_inputs", tuple(f"class {index}" for index in range(300)), (0, 1))
    keys = ["model.sem_seg_head.criterion", "dataloader.train.mapper", "dataloader.test.mapper"]
    overrides = [f"{key}.ignore_value=65535" for key in keys]
    options = ["dataloader.train.dataset.names=many_inputs", "model.sem_seg_head.num_classes=300"]
    for index, key in enumerate(keys):
        cfg = load_config("shapes/ifa_r18.py", [*options, *overrides[:index]])
        with pytest.raises(ValueError, match=rf"{key}\.ignore_value 255 is one of the 300 classes"):
            check_datasets(cfg, is_train=True)
    check_datasets(load_config("shapes/ifa_r18.py", [*options, *overrides]), is_train=True)
    cfg = load_config("shapes/ifa_r18.py", [*options, *overrides])
    sure, plain = L(nn.CrossEntropyLoss)(ignore_index=65535), L(DiceLoss)()
    cfg.model.sem_seg_head.criterion = L(WeightedSum)(criteria=[sure, plain])
    with pytest.raises(ValueError, match=r"criterion\.criteria\[1\]\.ignore_value 255 is one of"):
        check_datasets(cfg, is_train=True)
    plain.ignore_value = 65535
    cfg.model.sem_seg_head.criterion = L(WeightedSum)(criteria=[sure, plain])
    check_datasets(cfg, is_train=True)
    cfg = load_config(
        "shapes/ifa_r18.yaml",
        ["DATASETS.TRAIN=('many_inputs',)", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=300"],
    )
    with pytest.raises(ValueError, match=r"SEM_SEG_HEAD\.IGNORE_VALUE 255 is one of the 300"):
        check_datasets(cfg, is_train=True)


def test_a_lazy_config_tests_on_one_data_set(tmp_path: Path) -> None:
    cfg = load_config(
        "shapes/ifa_r18.py", ["dataloader.test.dataset.names=[shapes_val,shapes_train]"]
    )
    with pytest.raises(
        ValueError, match=r"dataset\.names must be one data set, .*'shapes_train'\]"
    ):
        check_training_data(cfg)
    cfg = load_config("shapes/ifa_r18.py", ["dataloader.evaluator.dataset_name=shapes_train"])
    with pytest.raises(ValueError, match=r"that of dataloader\.evaluator, got \['shapes_val'\]"):
        check_training_data(cfg)


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        ([], None),  # 32 pixels, times 0.5 to 2, for 40
        (["short_edge=80"], (40, 100)),
        (["short_edge=80", "scale_range=[0.5,0.5]"], None),
        (["short_edge=16"], (40, 20)),
        (["short_edge=null", "scale_law=balanced"], None),
        (["short_edge=null", "scale_range=[1.75,1.75]"], (40, 70)),
        (["crop_size=[8,8]"], None),
    ],
)
def test_scales_of_training_and_testing(
    tmp_path: Path, keys: list[str], sizes: tuple[int, int] | None
) -> None:
    augmentations = "dataloader.train.mapper.augmentations"
    said = check_scales(tiny_config(tmp_path, *(f"{augmentations}.{key}" for key in keys)))
    assert bool(said) == (sizes is not None)
    if sizes:
        test, train = (int(word) for word in re.findall(r"(\d+) (?:pixels )?in t", said[0]))
        assert test == sizes[0] and train == pytest.approx(sizes[1], rel=0.1)


def test_scales_of_a_resized_test(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, "dataloader.train.mapper.augmentations.short_edge=80")
    cfg.dataloader.test.mapper.augmentations = [
        L(T.ResizeShortestEdge)(short_edge_length=80, max_size=400)
    ]
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 (Detectron2's generator)
    assert check_scales(cfg) == []
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_scales_are_said_before_training(tmp_path: Path) -> None:
    setup_run(cfg := tiny_config(tmp_path, "dataloader.train.mapper.augmentations.short_edge=16"))
    Trainer(cfg)
    assert "pictures are tested at another scale" in (tmp_path / "log.txt").read_text()
