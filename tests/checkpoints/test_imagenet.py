"""Converted weights give the features of the network they come from."""

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from ifa_d2.checkpoints.imagenet import convert_imagenet_state_dict
from ifa_d2.modeling import build_resnet


def _randomize(network: nn.Module) -> nn.Module:
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        elif name.endswith("running_var") or value.dim() == 1:
            value.uniform_(0.5, 1.0)  # norms' weights too, which timm begins at 0
    return network.eval()


@torch.no_grad()
def _stages(network: nn.Module, image: Tensor) -> list[Tensor]:
    x = network.conv1(image)
    x = (network.act1 if hasattr(network, "act1") else network.relu)(network.bn1(x))
    x = network.maxpool(x)
    features = []
    for index in range(1, 5):
        x = getattr(network, f"layer{index}")(x)
        features.append(x)
    return features


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("torchvision resnet18", {"depth": 18, "stem_channels": None, "avg_down": False}),
        ("timm resnet18d", {"depth": 18, "stem_channels": 64, "avg_down": True}),
        ("timm resnet50s", {"depth": 50, "stem_channels": 128, "avg_down": False}),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_features_are_the_source_networks(
    source: str, settings: dict, size: tuple[int, int]
) -> None:
    library, name = source.split()
    if library == "timm":
        network = timm.create_model(name, pretrained=False)
    else:
        network = torchvision.models.get_model(name, weights=None)
    _randomize(network)
    converted = convert_imagenet_state_dict(network.state_dict())
    assert converted.settings == settings
    backbone = build_resnet(norm="BN", **converted.settings).eval()
    backbone.load_state_dict(converted.state)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = backbone(image)
    for mine, theirs in zip(features.values(), _stages(network, image), strict=True):
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() < 1e-5 * theirs.abs().max()


def _rename(state: dict, rules: dict[str, str]) -> dict:
    out = {}
    for name, value in state.items():
        for pattern, to in rules.items():
            name, count = re.subn(pattern, to, name)
            if count:
                break
        out[name] = value
    return out


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return _randomize(timm.create_model("resnet18d", pretrained=False))


@pytest.mark.parametrize(
    "rules",
    [
        {r"^conv1\.": "stem.", r"^bn1": "stem.7"},
        {
            **{r"^conv1\.0": "conv1", r"^conv1\.1": "bn1", r"^conv1\.3": "conv2"},
            **{r"^conv1\.4": "bn2", r"^conv1\.6": "conv3", r"^bn1": "bn3"},
        },
        {"^": "module."},
        {"^": "backbone."},
        # OpenMMLab's first stage has no pooling layer before its shortcut's convolution.
        {r"layer1\.0\.downsample\.1": "layer1.0.downsample.0"},
    ],
)
def test_other_names_of_the_same_tensors(network: nn.Module, rules: dict[str, str]) -> None:
    expected = convert_imagenet_state_dict(network.state_dict())
    converted = convert_imagenet_state_dict(_rename(network.state_dict(), rules))
    assert converted.settings == expected.settings
    assert converted.state.keys() == expected.state.keys()
    assert all(torch.equal(value, expected.state[key]) for key, value in converted.state.items())


def test_classifier_is_left_out_and_counters_may_be(network: nn.Module) -> None:
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    converted = convert_imagenet_state_dict(state).state
    model = build_resnet(depth=18, norm="BN", stem_channels=64, avg_down=True)
    assert model.state_dict().keys() - converted.keys() == {
        name for name in model.state_dict() if "num_batches" in name
    }
    assert converted.keys() <= model.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide_resnet50_2", r"ResNet-50 it seems: of another shape res2\.0\.conv1"),
        ("resnext50_32x4d", r"of another shape res2\.0\.conv1"),
        ("vgg11", r"not a ResNet of depth .* \(0, 0, 0, 0\) basic blocks"),
    ],
)
def test_other_networks_are_told_apart(name: str, message: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    with pytest.raises(ValueError, match=message):
        convert_imagenet_state_dict(state)


def test_missing_and_unknown_names_are_listed(network: nn.Module) -> None:
    state = network.state_dict()
    state["layer3.1.se.fc1.weight"] = state.pop("layer3.1.bn2.running_var")
    message = r"missing res4\.1\.conv2\.norm\.running_var; unknown layer3\.1\.se\.fc1\.weight"
    with pytest.raises(ValueError, match=message):
        convert_imagenet_state_dict(state)
    del state["conv1.0.weight"]
    with pytest.raises(ValueError, match="not a ResNet: none of the stems"):
        convert_imagenet_state_dict(state)
