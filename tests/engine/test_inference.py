"""Test-time augmentation and windows, from configs and flags to figures."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset
from omegaconf import OmegaConf
from torch import nn

from ifa_d2 import get_config
from ifa_d2.arguments import add_inference_arguments
from ifa_d2.engine import Predictor, Trainer
from ifa_d2.engine.inference import (
    apply_inference_arguments,
    build_inference_model,
)
from ifa_d2.engine.run import load_config
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.modeling import FieldSegmentor, MultiViewSegmentor
from tests.modeling.panoptic import small_model
from tests.tiny import tiny_config

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_inference_arguments(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser.parse_args(flags)


def build(cfg, *flags: str) -> nn.Module:
    apply_inference_arguments(cfg, parse(*flags))
    return build_inference_model(cfg, nn.Identity())


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("flag", [["--window", "8", "8"], ["--window", "1", "2", "3", "4"]])
def test_old_names_of_flags_say_the_new_ones(
    crop: bool, flag: list[str], capsys: pytest.CaptureFixture
) -> None:
    parser = argparse.ArgumentParser()
    add_inference_arguments(parser, crop=crop)
    for words in (flag, ["--slide", "8", "8"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        said = capsys.readouterr().err
        assert "--sliding-window H W" in said
        assert ("is now --crop Y0 X0 Y1 X1" in said) == (crop and words is flag)
    assert "--window" not in parser.format_help()


@pytest.mark.parametrize("name", ["shapes/ifa_r18.py", "shapes/ifa_r18.yaml", "tiny"])
def test_flags(name: str, tmp_path: Path) -> None:
    """Of a recipe of either kind, and of one without the block."""

    def load():
        return tiny_config(tmp_path) if name == "tiny" else load_config(name)

    assert type(build(load())) is nn.Identity
    cfg = load()
    tta = build(cfg, "--tta")
    assert isinstance(tta, MultiViewSegmentor)
    assert tta.views.sizes((40, 48)) == [(int(40 * s + 0.5), int(48 * s + 0.5)) for s in SCALES]
    assert tta.views.flip and tta.views.window is None
    windows = build(load(), "--sliding-window", "33", "48")
    assert windows.views.sizes((40, 48)) == [(40, 48)] and not windows.views.flip
    assert tuple(windows.views.window) == (33, 48)
    assert windows.views.strides() == (22, 32)
    assert windows.views.blend is None
    blended = build(load(), "--sliding-window", "33", "48", "--blend", "gaussian")
    assert blended.views.blend == "gaussian"
    both = build(
        load(), "--tta", "--sliding-window", "33", "48", "--stride", "2/3", "16", "key=value"
    )
    assert both.views.strides() == (22, 16)
    assert len(both.views.sizes((40, 48))) == len(SCALES)
    assert build(
        load(), "--sliding-window", "33", "48", "--stride", "0.5", "1.0"
    ).views.strides() == (
        17,
        48,
    )


def test_keys_of_a_recipe() -> None:
    cfg = load_config(
        "camvid/ifa_r18.py",
        ["inference.tta=true", "inference.scales=[1,2]", "inference.flip=false"],
    )
    wrapped = build_inference_model(cfg, nn.Identity())
    assert wrapped.views.sizes((10, 20)) == [(10, 20), (20, 40)] and not wrapped.views.flip
    cfg = load_config("camvid/ifa_r18.py", ["inference.window=[9,8]", "inference.batch_size=4"])
    wrapped = build_inference_model(cfg, nn.Identity())
    assert wrapped.batch_size == 4 and wrapped.views.strides() == (6, 6)
    cfg = get_config("camvid/ifa_r18.py")
    OmegaConf.update(cfg, "inference.scale", 2, force_add=True)
    with pytest.raises(ValueError, match=r"inference must have keys of .*, got 'scale'"):
        build_inference_model(cfg, nn.Identity())


@pytest.mark.parametrize(
    "name",
    [
        "shapes/ifa_r18.py",
        "shapes/ifa_r18.yaml",
        "camvid/ifa_r18.py",
        "cityscapes/ifa_r50.py",
        "pascal_context/ifa_r101.py",
        "ade20k/ifa_aspp_r101.py",
    ],
)
def test_recipes_have_the_settings_of_the_paper(name: str) -> None:
    """Sec. 4.1: six scales with mirror images; seven and windows on Cityscapes."""
    cityscapes = name.startswith("cityscapes")
    views = build(load_config(name), "--tta").views
    sizes = [(int(100 * s), int(200 * s)) for s in (*SCALES, 2.0)[: 7 if cityscapes else 6]]
    assert views.sizes((100, 200)) == sizes
    assert views.flip
    assert tuple(views.window or ()) == ((769, 769) if cityscapes else ())
    assert views.strides() == ((513, 513) if cityscapes else (1, 1))


@pytest.mark.parametrize("name", ["shapes/ifa_r18.py", "shapes/ifa_r18.yaml"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--stride", "8", "8"], r"stride \[8, 8\] is of windows: give their size"),
        (["--blend", "gaussian"], "blend gaussian is of windows: give their size"),
        (["--sliding-window", "8", "0"], "window must be whole numbers of 1 or more"),
        (["--sliding-window", "8", "8", "--stride", "9", "2"], "at most the window's 8, got 9"),
        (["--sliding-window", "8", "8", "--stride", "3/2", "2"], "stride must be a fraction"),
    ],
)
def test_bad_flags(name: str, flags: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        apply_inference_arguments(load_config(name), parse(*flags))


def test_stride_that_is_no_number(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse("--stride", "2/0", "1")
    assert "a fraction such as 2/3 or 0.5, got '2/0'" in capsys.readouterr().err


def test_wrong_values_show_before_training(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    OmegaConf.update(cfg, "inference.window", [8], force_add=True)
    with pytest.raises(ValueError, match="window must be 2 whole numbers"):
        Trainer(cfg)


@pytest.mark.parametrize("meta", [None, FieldSegmentor])
def test_trainer_evaluates_as_the_config_says(trained: Path, meta: type | None) -> None:
    cfg = tiny_config(trained / "out")
    if meta:
        cfg.model._target_ = meta
    weights = torch.load(trained / "out" / "model_final.pth", weights_only=True)["model"]
    model = instantiate(cfg.model).eval()
    model.load_state_dict(weights)
    # Two iterations teach little: other weights of the classes let the answers vary.
    nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    plain = Trainer.test(cfg, model)["sem_seg"]
    views = {"scales": [0.5, 1.0, 1.5], "flip": True, "window": [24, 30]}
    cfg.inference = {"tta": True, **views}
    averaged = Trainer.test(cfg, model)["sem_seg"]
    assert not model.training
    expected = inference_on_dataset(
        MultiViewSegmentor(model=model, **views),
        instantiate(cfg.dataloader.test),
        SemSegEvaluator("tiny", distributed=False),
    )["sem_seg"]
    assert {k: v for k, v in averaged.items()} == pytest.approx(expected, nan_ok=True)
    assert averaged["mIoU"] != plain["mIoU"]


def test_predictor_averages_fields(trained: Path) -> None:
    cfg = tiny_config(trained / "out")
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    model = instantiate(cfg.model)
    nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    predictor = Predictor(model)
    assert torch.equal(predictor.averaged_labels(image), predictor(image).labels())
    cfg.model._target_ = FieldSegmentor
    twin = instantiate(cfg.model).eval()
    twin.load_state_dict(model.state_dict())
    views = {"scales": (0.5, 1.0), "flip": True, "window": (24, 30)}
    rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
    expected = MultiViewSegmentor(model=twin, **views)([{"image": rgb}])[0]["sem_seg"]
    assert torch.equal(predictor.averaged_labels(image, **views), expected)
    assert not torch.equal(expected, predictor(image).labels())
    with pytest.raises(ValueError, match="scales must be"):
        predictor.averaged_labels(image, scales=(-1.0,))


def test_views_of_a_panoptic_model() -> None:
    model, cfg = small_model(), OmegaConf.create({"inference": {"tta": False}})
    assert build_inference_model(cfg, model) is model
    for views in ({"tta": True}, {"window": [64, 64]}):
        with pytest.raises(ValueError, match="inference must not have tta or a window"):
            build_inference_model(OmegaConf.create({"inference": views}), model)


def test_views_of_a_model_whose_panoptic_quality_is_evaluated() -> None:
    """Of whatever class it is: the panoptic evaluator would find no segments."""
    cfg = get_config("panoptic/cityscapes/panoptic_ifa_r50.py")
    assert build(cfg) is not None
    cfg.inference.tta = True
    with pytest.raises(ValueError, match="inference must not have tta or a window for a panoptic"):
        build(cfg)
