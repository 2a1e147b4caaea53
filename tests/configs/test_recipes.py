from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from ifa_d2 import get_config
from ifa_d2.analysis.cost import build_on_meta
from ifa_d2.engine.build import _check_features
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.engine.solver import build_optimizer
from ifa_d2.modeling import use_alignment
from tests.recipes import check_saved_again

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name != "common"
)


def test_there_are_recipes() -> None:
    assert RECIPES == [
        "ade20k/ifa_aspp_r101.py",
        "ade20k/ifa_r101.py",
        "ade20k/ifa_r50.py",
        "camvid/bilinear_lite0.py",
        "camvid/bilinear_lite0_frozen.py",
        "camvid/bilinear_r18.py",
        "camvid/ifa_convnext_t.py",
        "camvid/ifa_dinov2_s.py",
        "camvid/ifa_dinov3_s.py",
        "camvid/ifa_lite0.py",
        "camvid/ifa_lite0_frozen.py",
        "camvid/ifa_lite0_stride2.py",
        "camvid/ifa_r18.py",
        "camvid/ifa_r50.py",
        "camvid/ifa_swin_t.py",
        "camvid/ifa_vitdet_b.py",
        "camvid/upsampling_lite0.py",
        "camvid/upsampling_lite0_frozen.py",
        "cityscapes/deeplabv3plus_r50.py",
        "cityscapes/hrnet_w18.py",
        "cityscapes/hrnet_w48_ocr.py",
        "cityscapes/ifa_aspp_r101.py",
        "cityscapes/ifa_aspp_r18.py",
        "cityscapes/ifa_r101.py",
        "cityscapes/ifa_r18.py",
        "cityscapes/ifa_r50.py",
        "cityscapes/pspnet_r50.py",
        "crackforest/ifa_lite0.py",
        "pascal_context/ifa_aspp_r101.py",
        "pascal_context/ifa_r101.py",
        "pascal_context/ifa_r50.py",
        "shapes/ifa_r18.py",
    ]
    yaml = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert yaml == {"common/ifa_r18.yaml", "shapes/ifa_r18.yaml"}


@pytest.mark.parametrize("name", RECIPES)
def test_saved_recipe_loads_as_the_same(name: str, tmp_path: Path) -> None:
    check_saved_again(get_config(name), tmp_path)
    # Through Detectron2's own loader too.
    path, again = tmp_path / "config.yaml", tmp_path / "again.yaml"
    LazyConfig.save(LazyConfig.load(str(path)), str(again))
    assert path.read_text() == again.read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_resolves_and_builds_its_mappers(name: str) -> None:
    cfg = get_config(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    train = instantiate(cfg.dataloader.train.mapper)
    test = instantiate(cfg.dataloader.test.mapper)
    assert (train.is_train, test.is_train) == (True, False)
    assert cfg.dataloader.train.total_batch_size == cfg.train.batch_size
    assert cfg.dataloader.evaluator.dataset_name == cfg.dataloader.test.dataset.names
    assert cfg.model.sem_seg_head.levels.norm == cfg.model.backbone.norm


@pytest.mark.parametrize(
    ("alignment", "backbone"),
    [
        ("bilinear", "r18"),
        ("bilinear", "lite0"),
        ("upsampling", "lite0"),
        ("bilinear", "lite0_frozen"),
        ("upsampling", "lite0_frozen"),
    ],
)
def test_twin_of_ifa_differs_in_its_alignment_alone(alignment: str, backbone: str) -> None:
    ifa, twin = (get_config(f"camvid/{kind}_{backbone}.py") for kind in ("ifa", alignment))
    use_alignment(ifa.model.sem_seg_head, alignment)
    assert twin.pop("recipe") != ifa.pop("recipe")
    assert OmegaConf.to_container(ifa) == OmegaConf.to_container(twin)


@pytest.mark.parametrize("name", ["lite0", "convnext_t", "swin_t", "dinov2_s", "dinov3_s"])
def test_pixels_and_features_are_those_of_the_timm_model(name: str) -> None:
    cfg = get_config(f"camvid/ifa_{name}.py")
    assert cfg.model.backbone.pretrained
    cfg.model.backbone.pretrained = False
    model = build_on_meta(cfg)
    known = timm.get_pretrained_cfg(cfg.model.backbone.model_name)
    for key, value in (("pixel_mean", known.mean), ("pixel_std", known.std)):
        with torch.device("cpu"):
            assert instantiate(cfg.model[key]) == pytest.approx([255 * one for one in value])
    _check_features(cfg, model)
    assert set(model.sem_seg_head.levels.in_features) == set(model.backbone.output_shape())
    assert model.backbone.frozen == name.startswith("dino")


def test_vitdet_has_the_pyramid_that_it_declares() -> None:
    cfg = get_config("camvid/ifa_vitdet_b.py")
    model = build_on_meta(cfg)
    _check_features(cfg, model)
    assert set(model.sem_seg_head.levels.in_features) == set(model.backbone.output_shape())
    rates = {}
    for group in build_optimizer(cfg, model).param_groups:
        rates |= dict.fromkeys(map(id, group["params"]), group["lr"])
    named = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    # The pyramid starts from nothing, as the head does.
    assert named["backbone.net.blocks.0.attn.qkv.weight"] == pytest.approx(5e-5)
    assert named["backbone.simfp_2.0.weight"] == pytest.approx(5e-4)
    assert named["sem_seg_head.alignment.predictor.weight"] == pytest.approx(5e-4)


def test_frozen_lite0_leaves_its_backbone_out_of_the_optimizer() -> None:
    cfg = get_config("camvid/ifa_lite0_frozen.py")
    cfg.model.backbone.pretrained = False
    model = build_on_meta(cfg).train()
    groups = build_optimizer(cfg, model).param_groups
    held = {id(parameter) for group in groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.sem_seg_head.parameters()}
    assert {group["lr"] for group in groups} == {1e-3}


def test_yaml_files_are_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    # Detectron2 warns of a file without VERSION.
    for path in sorted(CONFIGS.rglob("*.yaml")):
        assert load_config(str(path)).yacs.VERSION == 2
    assert not [record.getMessage() for record in caplog.records]
