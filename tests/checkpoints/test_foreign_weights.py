"""Files of weights that other projects wrote."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from ifa_d2.checkpoints.foreign_weights import read_weights_file, rename_weights
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.modeling import TimmBackbone, build_resnet


class Model(nn.Module):
    """A backbone with a head, as segmentors have them."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = nn.Linear(2, 1)


def _small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def _load(backbone: nn.Module, path: Path, *, partial: bool = False) -> nn.Module:
    model = Model(backbone)
    Checkpointer(model, "").load_initial(str(path), partial=partial)
    return model.backbone.eval()


@pytest.mark.parametrize(
    "prefix", ["", "backbone.", "net.", "_orig_mod.", "module.", "module._orig_mod.backbone."]
)
@pytest.mark.parametrize("table", ["", "model", "state_dict", "model_state_dict"])
def test_prefixes_and_tables(tmp_path: Path, prefix: str, table: str) -> None:
    source = _small()
    state = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    torch.save({table: state, "epoch": 3} if table else state, tmp_path / "a.pth")
    loaded = _load(_small(), tmp_path / "a.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.state_dict().items())


def test_a_compiled_model_of_ours(tmp_path: Path) -> None:
    """Whatever stands in front of its names, a trained checkpoint is that of the whole model."""
    source, target = Model(_small()), Model(_small())
    state = {f"_orig_mod.{name}": value for name, value in source.state_dict().items()}
    torch.save({"model": state}, tmp_path / "a.pth")
    Checkpointer(target, "").load_trained(str(tmp_path / "a.pth"))
    assert torch.equal(target.sem_seg_head.weight, source.sem_seg_head.weight)


def test_safetensors(tmp_path: Path) -> None:
    source = _small()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "a.safetensors")
    loaded = _load(_small(), tmp_path / "a.safetensors")
    assert torch.equal(loaded[2].weight, source[2].weight)


def test_torchvision_resnet_in_detectron2s(tmp_path: Path) -> None:
    """The features are those of the network that was saved."""
    source = torchvision.models.resnet18().eval()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_resnet(depth=18, norm="BN")
    loaded = _load(backbone, tmp_path / "resnet18.pth")
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = source.maxpool(source.relu(source.bn1(source.conv1(picture))))
        for number, stage in enumerate(("layer1", "layer2", "layer3", "layer4"), start=2):
            expected = getattr(source, stage)(expected)
            torch.testing.assert_close(
                loaded(picture)[f"res{number}"], expected, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("name", ["convnext_atto", "tf_efficientnet_lite0", "resnet18d"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_timm_classifier_in_a_timm_backbone(tmp_path: Path, name: str, prefix: str) -> None:
    source = timm.create_model(name, pretrained=False)
    state = {f"{prefix}{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    loaded = _load(TimmBackbone(model_name=name), tmp_path / "a.pth")
    state = loaded.net.state_dict()
    names = {name.replace("_", "."): name for name in state}
    found = {
        names.get(name.replace("_", ".")): value for name, value in source.state_dict().items()
    }
    assert found.keys() >= state.keys()
    assert all(torch.equal(value, found[name]) for name, value in state.items())


def _fitting(build: Callable[[], nn.Module], share: float) -> dict[str, Tensor]:
    """A part of a model's tensors, from the first on, by numbers of parameters."""
    parameters = dict(build().named_parameters())
    total = sum(value.numel() for value in parameters.values())
    kept, count = {}, 0
    for name, value in parameters.items():
        if count + value.numel() <= share * total:
            kept[name] = value.detach()
            count += value.numel()
    return kept


def test_under_half_of_the_backbone_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def build() -> nn.Module:
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))

    path = tmp_path / "a.pth"
    torch.save(_fitting(build, 0.4), path)
    message = r"of 16 parameters of backbone are not in .*a\.pth.*train\.partial_checkpoint=True"
    with pytest.raises(ValueError, match=message):
        _load(build(), path)
    for share, partial in ((0.4, True), (0.6, False)):
        kept = _fitting(build, share)
        torch.save(kept, path)
        caplog.clear()
        logging.getLogger("fvcore").propagate = True
        loaded = _load(build(), path, partial=partial)
        name = next(iter(kept))
        assert torch.equal(loaded.state_dict()[name], kept[name])
        lines = {record.getMessage() for record in caplog.records}
        said = [line for line in lines if "start at random: is it of" in line]
        assert len(said) == 1


def test_counters_alone_are_no_weights(tmp_path: Path) -> None:
    """Of another network, whose batch norms happen to have the same names."""
    state = {"1.num_batches_tracked": torch.tensor(5), "features.0.weight": torch.zeros(9)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"no weight of .*\.p[tk][hl] fits the model"):
        _load(_small(), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float64(3.0), r"numpy\._?core\.multiarray\.scalar"),
        (argparse.Namespace(a=1), r"argparse\.Namespace"),
    ],
)
def test_a_blocked_type_is_named(tmp_path: Path, value: object, name: str) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": _small().state_dict(), "extra": value}, path)
    with pytest.raises(ValueError, match=rf"a\.pth holds a {name} .*weights_only=False") as caught:
        read_weights_file(str(path))
    assert "damaged" not in str(caught.value)


def test_every_length_of_a_cut_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": _small().state_dict(), "iteration": 3}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.pth is damaged or is no checkpoint$"):
            _load(_small(), path)


@pytest.mark.parametrize(
    "content",
    [
        {"model": {1: torch.zeros(2)}},
        {"model": {"0.weight": torch.zeros(2, 2).to_sparse()}},
        {"model": {"0.weight": torch.zeros(2, device="meta")}},
        {"model": {"0.weight": "text"}},
        [1, 2],
        3,
    ],
)
def test_odd_contents_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth is no checkpoint"):
        _load(_small(), tmp_path / "a.pth")


def test_text_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n" * 20)
    with pytest.raises(ValueError, match=r"a\.pth is damaged or is no checkpoint"):
        _load(_small(), path)


def test_statistics_must_be_there_to_predict(tmp_path: Path) -> None:
    state = Model(_small()).state_dict()
    kept = {name: value for name, value in state.items() if "running" not in name}
    torch.save({"model": kept}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"lacks 2 of 10 tensors: backbone\.1\.running_mean"):
        Checkpointer(Model(_small()), "").load_trained(str(tmp_path / "a.pth"))


def test_names_that_fit_stay() -> None:
    model = Model(_small())
    state = model.state_dict()
    assert list(rename_weights(state, model)) == list(state)
