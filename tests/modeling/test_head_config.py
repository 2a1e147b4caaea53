"""Heads from options, and changes of a head's LazyConfig."""

import copy
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from omegaconf import OmegaConf
from torch import nn

from ifa_d2 import add_ifa_config, get_config
from ifa_d2.engine import Trainer
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.run import load_config
from ifa_d2.modeling import AuxiliaryHead, FeatureLevels, IFASemSegHead, fit_channels, use_alignment
from ifa_d2.modeling.alignments import Carafe
from ifa_d2.modeling.head_config import OPTIONS, PLACES, head_config, yacs_options
from tests.heads import make_head

SHAPES = {f"res{i + 2}": ShapeSpec(channels=4 * 2**i, stride=4 * 2**i) for i in range(4)}
# A recipe from before heads were made of parts: options side by side.
FLAT = {
    "_target_": "ifa_d2.modeling.IFASemSegHead",
    "input_shape": {
        f"res{i + 2}": {
            "_target_": "detectron2.layers.ShapeSpec",
            "channels": 64 * 2**i,
            "stride": 4 * 2**i,
        }
        for i in range(4)
    },
    "num_classes": 11,
    "norm": "${..backbone.norm}",
    "aux_channels": 64,
    "alignment": "carafe",
    "alignment_options": {"kernel_size": 3},
    "targets": "points",
    "local_ensemble": True,
    "encoding": "sine",  # that nothing reads
}
OLD_NAMES = {
    "levels.projections.": "projections.",
    "levels.dense_alignment.": "dense_alignment.",
    "levels.grid_decoder.": "grid_decoder.",
    "aux_heads.0.": "aux_head.",
}


def features() -> dict[str, torch.Tensor]:
    return {
        n: torch.randn(1, s.channels, 64 // s.stride, 96 // s.stride) for n, s in SHAPES.items()
    }


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of a head, or of a model, under the names of before."""
    renamed = {}
    for name, value in state.items():
        for now, before in OLD_NAMES.items():
            name = name.replace(now, before)
        renamed[name] = value
    return renamed


def test_options_are_those_of_yacs() -> None:
    cfg = get_cfg()
    add_ifa_config(cfg)
    options = yacs_options(cfg, SHAPES)
    assert set(options) == {*OPTIONS, "input_shape", "num_classes"}
    assert set(OPTIONS) - {"loss_weight", "aux_loss_weight"} < set(PLACES)
    for name, default in OPTIONS.items():
        if f"{name.upper()}" in cfg.MODEL.IFA:
            assert options[name] == default or list(options[name]) == list(default), name


def test_widths_follow() -> None:
    head = get_config("cityscapes/deeplabv3plus_r50.py").model.sem_seg_head
    assert list(head.levels.grid_decoder.align.in_channels) == [48, 256]
    head.levels.channels = [8, 256]
    head.levels.projections.res5.out_channels = 16
    head.levels.grid_decoder.dims = [24, 20]
    fit_channels(head)
    assert list(head.levels.grid_decoder.align.in_channels) == [8, 16]
    assert list(head.alignment.in_channels) == [20]
    with torch.device("meta"):
        levels = instantiate(head.levels)
    assert levels.grid_decoder.convs[0].in_channels == 8 + 16 + 2 * 26
    # What follows another key still does.
    plain = get_config("camvid/ifa_r18.py").model.sem_seg_head
    fit_channels(plain)
    plain.levels.channels = [9, 9, 9, 9]
    assert list(plain.alignment.in_channels) == [9, 9, 9, 9]


def test_widths_follow_the_command_line() -> None:
    cfg = load_config(
        "camvid/upsampling_lite0.py", ["model.sem_seg_head.levels.channels=[8,8,8,8]"]
    )
    assert list(cfg.model.sem_seg_head.levels.dense_alignment.in_channels) == [8, 8, 8, 8]
    assert list(cfg.model.sem_seg_head.alignment.in_channels) == [32]


def test_parts_that_do_not_fit_are_named() -> None:
    head = make_head(input_shape=SHAPES, num_classes=5, channels=8, hidden_dims=(6,))
    parts = {"levels": head.levels, "alignment": head.alignment, "num_classes": 5}
    other = FeatureLevels(input_shape=SHAPES, channels=6)
    with pytest.raises(ValueError, match=r"alignment.in_channels must be \(6, 6, 6, 6\).*\(8, 8"):
        IFASemSegHead(**{**parts, "levels": other})
    with pytest.raises(ValueError, match=r"alignment.num_classes must be num_classes 4, got 5"):
        IFASemSegHead(**{**parts, "num_classes": 4})
    sizes = {"channels": 4, "num_classes": 5}
    for feature, in_channels in (("res9", 16), ("res4", 17)):
        aux = AuxiliaryHead(feature=feature, in_channels=in_channels, **sizes)
        with pytest.raises(ValueError, match=rf"'res4': 16.*got '{feature}' and {in_channels}"):
            IFASemSegHead(**parts, aux_heads=[aux])
    with pytest.raises(ValueError, match=r"in_channels of the dense alignment.*\(6, 6, 6, 6\)"):
        carafe = Carafe(in_channels=[8] * 4, strides=[4, 8, 16, 32], norm="")
        FeatureLevels(input_shape=SHAPES, channels=6, dense_alignment=carafe)
    with pytest.raises(ValueError, match=r"in_features must be finest first, got .*'res3': 8"):
        FeatureLevels(input_shape=SHAPES, in_features=["res3", "res2"])
    with pytest.raises(ValueError, match=r"projections must be of in_features .*\['res5'\]"):
        FeatureLevels(input_shape=SHAPES, in_features=["res2"], projections={"res5": nn.Identity()})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cubic", {}, "alignment must be one of.*'carafe'.*'cubic'"),
        ("bilinear", {"kernel_size": 3}, "alignment 'bilinear' has no options, got .*kernel_size"),
        ("carafe", {"size": 3}, r"options of alignment 'carafe' must be of .*got \['size'\]"),
    ],
)
def test_alignments_that_cannot_be_used(name: str, options: dict, message: str) -> None:
    head = get_config("camvid/ifa_r18.py").model.sem_seg_head
    with pytest.raises(ValueError, match=message):
        use_alignment(head, name, **options)


def test_an_alignment_takes_the_place_of_positions() -> None:
    parts = head_config(
        {
            "input_shape": SHAPES,
            "num_classes": 5,
            "channels": 8,
            "cell_decoding": True,
            "local_ensemble": True,
            "ensemble_outputs": True,
        }
    )
    use_alignment(parts, "bilinear")
    expected = {"encoding": "none", "local_ensemble": True}
    known = {"in_channels", "num_classes", "hidden_dims", "norm", "_target_"}
    assert {k: v for k, v in parts.alignment.items() if k not in known} == expected


# -- before heads were made of parts


def old_recipe(path: Path) -> Path:
    cfg = get_config("camvid/ifa_r18.py")
    cfg.model.sem_seg_head = FLAT
    LazyConfig.save(cfg, str(path))
    return path


def test_recipes_of_before_are_read(tmp_path: Path) -> None:
    head = load_config(str(old_recipe(tmp_path / "config.yaml"))).model.sem_seg_head
    expected = get_config("camvid/ifa_r18.py").model.sem_seg_head
    use_alignment(expected, "carafe", kernel_size=3)
    models = [instantiate(node) for node in (head, expected)]
    assert str(models[0]) == str(models[1])
    for one, other in zip(*(m.state_dict().items() for m in models), strict=True):
        assert (one[0], one[1].shape) == (other[0], other[1].shape)
    assert models[0].targets.takes_points


def test_options_beside_parts_are_named(tmp_path: Path) -> None:
    cfg = get_config("camvid/ifa_r18.py")
    OmegaConf.update(cfg, "model.sem_seg_head.local_ensemble", True)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    with pytest.raises(ValueError, match=r"local_ensemble is alignment\.local_ensemble"):
        load_config(str(tmp_path / "config.yaml"))


@pytest.mark.parametrize("decoder", ["pointwise", "ocr"])
@pytest.mark.parametrize("alignment", ["ifa", "carafe"])
def test_tensors_of_before_are_found(alignment: str, decoder: str) -> None:
    options = {"alignment": alignment, "decoder": decoder, "channels": 8, "hidden_dims": (6,)}
    heads = [make_head(input_shape=SHAPES, num_classes=5, **options).eval() for _ in range(2)]
    state = old_names(heads[0].state_dict())
    assert any(name.startswith("projections.") for name in state)
    heads[1].load_state_dict(copy.copy(state))  # strict: all are found
    given = features()
    assert torch.equal(heads[0](given)[0], heads[1](given)[0])


def test_a_checkpoint_of_before_with_other_classes(tmp_path: Path) -> None:
    """Tensors of other shapes are left out, as Detectron2 leaves them, whatever their names."""
    small = ["model.sem_seg_head.levels.channels=[8,8,8,8]", "model.sem_seg_head.num_classes=3"]
    cfg = load_config("shapes/ifa_r18.py", [*small, "train.device=cpu"])
    model = Trainer.build_model(cfg)
    torch.save({"model": old_names(model.state_dict())}, tmp_path / "old.pth")
    cfg.model.sem_seg_head.num_classes = 4
    other = Trainer.build_model(cfg)
    Checkpointer(other, save_to_disk=False).load(str(tmp_path / "old.pth"))
    for name, value in other.state_dict().items():
        if value.shape == model.state_dict()[name].shape:
            assert torch.equal(value, model.state_dict()[name]), name
    assert other.sem_seg_head.aux_heads[0].predictor.out_channels == 4
