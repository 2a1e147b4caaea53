"""Joined weights, and the demo with them: no option of it names the system."""

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import join_weights
import numpy as np
import pytest
import torch
from aux_adapt import AuxAdaptSegmentor
from detectron2.config import instantiate
from PIL import Image
from torch import nn

from tests.tiny import assert_same, tiny_config

ROOT = Path(__file__).parents[3]
RECIPE = Path(__file__).with_name("tiny_auxadapt.py")


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, nn.Module]:
    """Two small models of random weights, and their checkpoints main.pth and auxiliary.pth."""
    made = {}
    for name in join_weights.PARTS:
        made[name] = instantiate(tiny_config(tmp_path).model).eval()
        nn.init.normal_(made[name].sem_seg_head.alignment.predictor.weight, std=0.1)
        torch.save({"model": made[name].state_dict()}, tmp_path / f"{name}.pth")
    return made


def call(monkeypatch: pytest.MonkeyPatch, main: Callable, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


def join(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: object) -> Path:
    files = {name: folder / f"{name}.pth" for name in join_weights.PARTS}
    options = {"config-file": RECIPE, **files, "output": folder / "joined.pth"} | changes
    flags = ((f"--{name}", value) for name, value in options.items())
    call(monkeypatch, join_weights.main, *itertools.chain(*flags))
    return folder / "joined.pth"


def test_weights_are_those_of_the_parts(
    parts: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = torch.load(join(monkeypatch, tmp_path), weights_only=True)["model"]
    assert_same(joined, AuxAdaptSegmentor(parts["main"], parts["auxiliary"]).state_dict())
    with pytest.raises(ValueError, match="would replace the weights"):
        join(monkeypatch, tmp_path, output=tmp_path / "main.pth")
    with pytest.raises(FileNotFoundError, match=r"none.pth does not exist"):
        join(monkeypatch, tmp_path, auxiliary=tmp_path / "none.pth")
    with pytest.raises(ValueError, match="must have a part main"):
        join(monkeypatch, tmp_path, **{"config-file": ROOT / "tests" / "tiny_recipe.py"})


def test_the_demo_plays_frames_in_order(
    parts: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frames").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 56, 3), np.uint8)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{index}.png")
    joined = join(monkeypatch, tmp_path)
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    def labels(rate: float) -> np.ndarray:
        """Labels that the demo writes, which must be those of the segmentor in Python."""
        out = tmp_path / f"labels_{rate}"
        command = ["--config-file", RECIPE, "--weights", joined, "--input", tmp_path / "frames"]
        command += ["--save-labels", out, f"model.learning_rate={rate}"]
        call(monkeypatch, demo.main, *command)
        model = AuxAdaptSegmentor(*parts.values(), learning_rate=rate, cut_distance=None).eval()
        found = []
        for index, frame in enumerate(frames):
            image = torch.from_numpy(frame.transpose(2, 0, 1).copy())
            expected = model([{"image": image, "height": 40, "width": 56}])[0]["sem_seg"].argmax(0)
            found.append(np.asarray(Image.open(out / f"{index}.png")))
            assert np.array_equal(found[-1], expected.numpy())
        model.reset()  # of the parts, which it adapts in place
        return np.stack(found)

    adapted, plain = labels(0.05), labels(0)
    assert (adapted[-1] != plain[-1]).any()
