"""The command, and its files where neither this package nor Detectron2 is."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

from ifa_d2.choices import EXPORT_FORMATS
from ifa_d2.cli.export_model import channel_order
from ifa_d2.engine.export import eager_logits
from ifa_d2.engine.predictor import Predictor, load_model
from ifa_d2.engine.run import load_config
from tests.engine.test_export_metadata import read
from tests.forked_python import forked_python
from tests.tiny import RECIPE, tiny_config

COMMAND = Path(__file__).parents[2] / "tools" / "export_model.py"

# As in the README: torch, or onnxruntime alone.
TORCH = """
import sys
sys.modules.update(ifa_d2=None, detectron2=None)
import torch
image, size = torch.load("inputs.pt")
program = {load}
torch.save(program(image, size), "logits.pt")
"""
ONNX = """
import sys
sys.modules.update(ifa_d2=None, detectron2=None, torch=None)
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model")
inputs = dict(image=np.load("image.npy"), size=np.load("size.npy"))
np.save("logits.npy", session.run(["logits"], inputs)[0])
"""
SCRIPTS = {
    "torchscript": TORCH.format(load="torch.jit.load('model')"),
    "torch.export": TORCH.format(load="torch.export.load(open('model', 'rb')).module()"),
    "onnx": ONNX,
}


@pytest.fixture(scope="module")
def command() -> dict:
    return runpy.run_path(str(COMMAND))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": instantiate(tiny_config(path.parent).model).state_dict()}, path)
    return path


def arguments(weights: Path, output: Path, *more: object) -> list[str]:
    values = ["--config-file", RECIPE, "--weights", weights, "--output", output]
    return [str(value) for value in (*values, "--input-size", 64, 96, *more)]


@pytest.mark.parametrize("file_format", EXPORT_FORMATS)
def test_files_run_elsewhere(
    command: dict, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture, file_format: str
) -> None:
    output = tmp_path / "model"
    command["main"](arguments(weights, output, "--format", file_format, "--output-size", "input"))
    lines = capsys.readouterr().out.splitlines()[-4:]
    sizes = [line.split(": ")[0] for line in lines[:3]]
    assert sizes == [
        "picture 64x96, output 42x128",
        "picture 49x121, output 32x161",
        "picture 81x73, output 54x97",
    ]
    assert all("(tolerance 1e-04)" in line for line in lines[:3])
    assert lines[3].startswith(f"{output}: {file_format}, ") and "RGB" in lines[3]

    described = read(output, file_format)
    assert described["classes"] == MetadataCatalog.get("tiny").stuff_classes
    assert described["channel_order"] == "RGB"

    image = torch.randint(0, 256, (1, 3, 45, 78), dtype=torch.uint8)
    size = torch.tensor([91, 33])
    if file_format == "onnx":
        np.save(tmp_path / "image.npy", image.numpy())
        np.save(tmp_path / "size.npy", size.numpy())
    torch.save((image, size), tmp_path / "inputs.pt")
    script = [sys.executable, "-W", "ignore", "-c", SCRIPTS[file_format]]
    subprocess.run(script, cwd=tmp_path, check=True, timeout=300)
    if file_format == "onnx":
        logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    else:
        logits = torch.load(tmp_path / "logits.pt")
    model = load_model(tiny_config(tmp_path), str(weights))
    predictor = Predictor(model)
    expected = eager_logits(predictor, image[0].permute(1, 2, 0).numpy(), (91, 33))[None]
    assert logits.shape == (1, 3, 91, 33)
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--tolerance", "-1"), "tolerance must be 0 or above, got -1.0"),
        (
            ("--", "model.backbone._target_=tests.engine.test_export.SizeMindedResNet"),
            r"differ by .* \(tolerance 1.0e-04\) for a picture of \(49, 121\)",
        ),
        (("--input-size", "32", "32"), "example_size must be at least 64"),
        (("--weights", "nowhere.pth"), "nowhere.pth does not exist"),
    ],
)
def test_errors_are_one_sentence_and_no_file(
    weights: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    given = arguments(weights, tmp_path / "model", "--format", "torchscript", *more)
    done = subprocess.run(
        [forked_python(), str(COMMAND), *given],
        env={**os.environ, "PYTHONPATH": str(COMMAND.parents[1])},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.lstrip(".").startswith("model")]


def test_channel_order_is_the_configs(tmp_path: Path) -> None:
    assert channel_order(load_config("shapes/ifa_r18.yaml")) == "RGB"
    cfg = tiny_config(tmp_path)
    cfg.dataloader.test.mapper.image_format = "BGR"
    assert channel_order(cfg) == "BGR"
    del cfg.dataloader
    assert channel_order(cfg) == "the model's"
