"""What is built of a yacs config's data sets."""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluator
from omegaconf import OmegaConf
from torch import nn

from ifa_d2.engine import build
from ifa_d2.engine.run import load_config
from ifa_d2.evaluation import PanopticEvaluator, SemSegEvaluator

NAME = "of_test_build"
PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"


@pytest.fixture
def records() -> Iterator[list[dict]]:
    """Of five pictures, two without instances."""
    instance = {"category_id": 0, "iscrowd": 0}
    records = [
        {"file_name": f"{index}.png", "annotations": [instance] * count}
        for index, count in enumerate((1, 0, 2, 0, 1))
    ]
    DatasetCatalog.register(NAME, lambda: records)
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def _names(recipe: str, *overrides: str) -> list[str]:
    """The pictures that a config trains on."""
    common = [f"DATASETS.TRAIN=('{NAME}',)", "DATALOADER.NUM_WORKERS=0", "MODEL.DEVICE=cpu"]
    cfg = load_config(recipe, [*common, *overrides])
    stream = build.build_train_loader(cfg).dataset
    return [record["file_name"] for record in stream._dataset]


def test_pictures_without_instances(records: list[dict]) -> None:
    """They are left out where masks are learned and the config wants it; labels do not mind."""
    everything, some = [f"{index}.png" for index in range(5)], ["0.png", "2.png", "4.png"]
    for value, expected in ((True, some), (False, everything)):
        override = f"DATALOADER.FILTER_EMPTY_ANNOTATIONS={value}"
        assert _names(PANOPTIC, override) == expected
        assert _names("shapes/ifa_r18.yaml", override) == everything
    # Detectron2's base of the panoptic configs keeps all, and so do the defaults of the others.
    assert _names(PANOPTIC) == _names("shapes/ifa_r18.yaml") == everything


def test_samplers_that_a_stream_does_not_have(records: list[dict]) -> None:
    for recipe in (PANOPTIC, "shapes/ifa_r18.yaml"):
        with pytest.raises(ValueError, match=r"SAMPLER_TRAIN must be 'TrainingSampler'.* 'Random"):
            _names(recipe, "DATALOADER.SAMPLER_TRAIN=RandomSubsetTrainingSampler")


def test_the_repeating_sampler_of_a_yaml() -> None:
    key = "DATALOADER.REPEAT_THRESHOLD=0.3"
    for sampler, threshold in (("RepeatFactorTrainingSampler", 0.3), ("TrainingSampler", 0.0)):
        cfg = load_config("shapes/ifa_r18.yaml", [f"DATALOADER.SAMPLER_TRAIN={sampler}", key])
        assert cfg.dataloader.train.repeat_threshold == threshold


@pytest.mark.parametrize("recipe", [PANOPTIC, "panoptic/coco/panoptic_ifa_r50.py"])
def test_panoptic_quality_needs_its_package(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(recipe)
    (name,) = build.test_dataset_names(cfg)
    evaluators = build.build_evaluator(cfg, name)._evaluators
    assert any(isinstance(one, PanopticEvaluator) for one in evaluators)
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    with pytest.raises(ImportError, match=f"{name} needs .* pip install cityscapesScripts"):
        build.build_evaluator(cfg, name)


def test_detectron2s_evaluator_needs_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config("panoptic/coco/panoptic_ifa_r50.py")
    (name,) = build.test_dataset_names(cfg)
    cfg.dataloader.evaluator = L(COCOPanopticEvaluator)(dataset_name=name)
    monkeypatch.setitem(sys.modules, "panopticapi", None)
    with pytest.raises(ImportError, match=f"{name} needs panopticapi, .*PanopticEvaluator"):
        build.build_evaluator(cfg, name)
    monkeypatch.setitem(sys.modules, "panopticapi", ModuleType("panopticapi"))
    monkeypatch.setattr(sys.modules["panopticapi"], "__spec__", ModuleSpec("panopticapi", None))
    assert type(build.build_evaluator(cfg, name)) is COCOPanopticEvaluator


def test_pictures_have_three_channels() -> None:
    """An option that nothing else follows: a wrong one would fail at the first picture."""
    cfg = load_config("shapes/ifa_r18.py", ["model.backbone.in_channels=4"])
    with pytest.raises(ValueError, match=r"model\.backbone\.in_channels must be 3, .* got 4"):
        build.build_model(cfg)
    keys = ["MODEL.PIXEL_MEAN=[1.0,2.0]", "MODEL.PIXEL_STD=[1.0,2.0]"]
    with pytest.raises(ValueError, match=r"length of MODEL\.PIXEL_MEAN must be 3, .* got 2"):
        build.build_model(load_config("shapes/ifa_r18.yaml", keys))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("res3.channels=64", r"input_shape\.res3\.channels must be 128, .* res3 has, got 64"),
        ("res5.stride=16", r"input_shape\.res5\.stride must be 32, .* res5 has, got 16"),
    ],
)
def test_features_of_another_backbone(key: str, message: str) -> None:
    cfg = load_config("shapes/ifa_r18.py", [f"model.sem_seg_head.levels.input_shape.{key}"])
    with pytest.raises(ValueError, match=message):
        build.build_model(cfg)


def test_a_criterion_ignores_what_the_data_do() -> None:
    cfg = load_config("shapes/ifa_r18.py")
    cfg.model.sem_seg_head.criterion = L(nn.CrossEntropyLoss)()
    words = r"mapper\.ignore_value must be -100, which the criterion ignores, got 255"
    with pytest.raises(ValueError, match=words):
        build.build_model(cfg)
    cfg.model.sem_seg_head.criterion.ignore_index = 255
    build.build_model(cfg)


def test_an_evaluator_that_needs_logits() -> None:
    cfg, bins = load_config("camvid/ifa_r18.py"), "dataloader.evaluator.calibration_bins=15"
    build.check_evaluation_needs(cfg)
    build.check_evaluation_needs(load_config("shapes/ifa_r18.yaml"))
    with pytest.raises(ValueError, match=r"needs logits, .*: model\.return_logits"):
        build.check_evaluation_needs(load_config("camvid/ifa_r18.py", [bins]))
    given = "model.return_logits=True"
    build.check_evaluation_needs(load_config("camvid/ifa_r18.py", [bins, given]))
    # Other segmentors give logits at all times.
    build.check_evaluation_needs(load_config("cityscapes/ifa_r18.py", [bins]))


class _DepthEvaluator(DatasetEvaluator):
    best_metric = "depth/delta_1"


@pytest.mark.parametrize(
    ("evaluator", "expected"),
    [
        (L(_DepthEvaluator)(dataset_name=NAME), "depth/delta_1"),
        (
            [L(_DepthEvaluator)(dataset_name=NAME), L(SemSegEvaluator)(dataset_name=NAME)],
            "depth/delta_1",
        ),
        ({NAME: L(_DepthEvaluator)(dataset_name=NAME)}, "depth/delta_1"),
        (L(SemSegEvaluator)(dataset_name=NAME), None),
        ([], None),
    ],
)
def test_an_evaluator_names_the_figure_to_choose_by(evaluator: Any, expected: str | None) -> None:
    cfg = OmegaConf.create({"dataloader": {"evaluator": evaluator}}, flags={"allow_objects": True})
    assert build.evaluator_metric(cfg) == expected
