"""The measurement of refined labels, by its command."""

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.forked_python import forked_python
from tests.tiny import RECIPE

SCRIPT = Path(__file__).parents[2] / "projects" / "IFA" / "measure_refinement.py"


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [forked_python(), SCRIPT, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_agreement_and_samples(trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    weights = trained / "out" / "model_final.pth"
    shown = ["--config-file", RECIPE, "--weights", weights, "--repeats", 1]
    done = run(
        *shown,
        *("--input", picture, "--input-size", 64, 96, "--json", tmp_path / "rows.json"),
        *("--thresholds", 0, "inf", "--", f"train.output_dir={trained / 'out'}"),
    )
    assert done.returncode == 0, done.stderr
    few, exact = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert exact["agreement"] == 1
    assert exact["asked_ratio"] == pytest.approx(1 + 4 + 16)
    assert 1 <= few["asked_ratio"] < exact["asked_ratio"] and few["agreement"] <= 1
    assert "pixels equal" in done.stdout
    missing = run(*shown, "--input", tmp_path / "none.png")
    assert missing.returncode != 0
    assert "No such file" in missing.stderr and "none.png" in missing.stderr
