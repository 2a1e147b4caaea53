import runpy
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from ifa_d2.cli.convert_imagenet_checkpoint import needed_overrides
from ifa_d2.engine.build import build_model
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.run import load_config

COMMAND = Path(__file__).parents[2] / "tools" / "convert_imagenet_checkpoint.py"
RECIPE = "cityscapes/ifa_r18.py"


@pytest.fixture(scope="module")
def command() -> dict:
    return runpy.run_path(str(COMMAND))


def test_recipe_starts_from_the_converted_file(
    command: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    network = timm.create_model("resnet18d", pretrained=False)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "in.pth")
    path = tmp_path / "made" / "out.pth"
    command["main"]([str(tmp_path / "in.pth"), str(path)])
    lines = capsys.readouterr().out.splitlines()
    words = lines[-1].partition(" with ")[2].split()
    assert words == [f"train.init_checkpoint={path}", "model.backbone.avg_down=true"]
    assert list(path.parent.iterdir()) == [path]

    cfg = load_config(RECIPE, [*words, "train.device=cpu"])
    model = build_model(cfg)
    before = model.sem_seg_head.state_dict()["alignment.predictor.weight"].clone()
    Checkpointer(model).load(cfg.train.init_checkpoint)
    state = model.state_dict()
    assert torch.equal(
        state["backbone.res5.1.conv2.weight"], network.state_dict()["layer4.1.conv2.weight"]
    )
    converted = torch.load(path, weights_only=True)["model"]
    assert {n for n in state if n.startswith("backbone.")} == converted.keys()
    assert all(torch.equal(state[name], value) for name, value in converted.items())
    assert torch.equal(state["sem_seg_head.alignment.predictor.weight"], before)


def test_the_papers_networks_need_no_override() -> None:
    for depth, channels in ((18, 64), (50, 128), (101, 128)):
        assert (
            needed_overrides({"depth": depth, "stem_channels": channels, "avg_down": False}) == {}
        )
    assert needed_overrides({"depth": 50, "stem_channels": 64, "avg_down": True}) == {
        "model.backbone.stem_channels": 64,
        "model.backbone.avg_down": True,
    }


def test_networks_of_timm_bring_their_normalisation(
    command: dict, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model("resnet18", pretrained=False)
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.229, 0.224, 0.225)}
    # Weights of its own are not to be had without a network.
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: network)
    command["main"](["timm:resnet18", str(tmp_path / "out.pth")])
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert words[-2:] == [
        "model.pixel_mean=[127.5,127.5,127.5]",
        "model.backbone.stem_channels=null",
    ]


def test_mistakes_are_named(command: dict, tmp_path: Path) -> None:
    def fails(message: str, source: object, target: str = "out.pth") -> None:
        with pytest.raises((ValueError, OSError), match=message):
            command["main"]([str(source), str(tmp_path / target)])
        assert not (tmp_path / target).exists()

    fails("no.pth", tmp_path / "no.pth")
    (tmp_path / "garbage.pth").write_bytes(b"no checkpoint")
    fails(r"garbage\.pth is not a checkpoint", tmp_path / "garbage.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    fails(r"other\.pth is not a checkpoint", tmp_path / "other.pth")
    state = torchvision.models.squeezenet1_0(weights=None).state_dict()
    torch.save(state, tmp_path / "squeezenet.pth")
    fails("not a ResNet", tmp_path / "squeezenet.pth")
    fails(r"OUT\.pth must end in \.pth", tmp_path / "squeezenet.pth", "out.pkl")
    fails("timm has no weights 'resnet18x'", "timm:resnet18x")
