"""The command that fits a temperature."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from ifa_d2.engine.predictor import load_model
from tests.tiny import RECIPE, tiny_config

COMMAND = Path(__file__).parents[2] / "tools" / "fit_temperature.py"


def run(trained: Path, *options: object) -> None:
    weights = trained / "out" / "model_final.pth"
    arguments = ["--config-file", RECIPE, "--weights", weights, *options]
    runpy.run_path(str(COMMAND))["main"]([str(part) for part in arguments])


def test_the_command_fits_says_and_writes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "new" / "calibrated.pth"
    run(trained, "--output", output, "--pixels", 5000)
    said = capsys.readouterr().out
    found = float(re.search(r"temperature ([\d.]+) \(of either half: [\d.]+, [\d.]+\)", said)[1])
    assert "tiny: 5005 pixels of 7 pictures" in said and str(output) in said
    assert re.search(r"NLL, nats +\| [\d.]+ +\| [\d.]+", said)
    assert re.search(r"ECE, % +\| [\d.]+ +\| [\d.]+", said)
    kept = torch.load(output, weights_only=True)["model"]["sem_seg_head.temperature"]
    assert kept.item() == pytest.approx(found, abs=1e-4)
    model = load_model(tiny_config(tmp_path), str(output))
    assert model.sem_seg_head.temperature == kept.item() != 1


def test_wrong_outputs_are_refused_before_anything_is_read(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"output must end in \.pth, got"):
        run(trained, "--output", "calibrated.onnx")
    with pytest.raises(ValueError, match="would replace the weights"):
        run(trained, "--output", trained / "out" / "model_final.pth")
    with pytest.raises(ValueError, match="dataset"):
        run(trained, "--output", trained / "new.pth", "--dataset", "tinny")
