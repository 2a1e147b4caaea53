"""The command on small pictures, which are no film but are numbered as one."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ifa_d2.engine import Trainer
from ifa_d2.engine.predictor import load_model
from tests.forked_python import forked_python
from tests.tiny import COUNT, RECIPE, tiny_config

SCRIPT = Path(__file__).parents[3] / "projects" / "PerceptualConsistency" / "evaluate_video.py"


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [forked_python(), SCRIPT, "--config-file", RECIPE, *arguments]
    env = {**os.environ, "TINY_DATA": str(root)}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)


def test_figures_of_a_model(trained: Path, tmp_path: Path) -> None:
    weights = trained / "out" / "model_final.pth"
    shown = ["--weights", weights, "--json", tmp_path / "figures.json"]
    done = run(trained, *shown, f"train.output_dir={trained / 'out'}")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "figures.json").read_text())
    figures = content["figures"]
    assert content["clip"] == "tiny_clip" and figures["frames"] == COUNT
    cfg = tiny_config(trained / "out")
    expected = Trainer.test(cfg, load_model(cfg, str(weights)))["sem_seg"]["mIoU"]
    assert figures["mIoU"] == pytest.approx(expected)
    assert figures["PC"] <= 100 and 0 <= figures["TC_dis"] <= 100
    assert figures["mVC_8"] is None  # of seven frames
    assert "| mVC_8             | -  " in done.stdout and "| PC " in done.stdout
    assert min(figures["ms"], figures["cpu_ms"]) > 0


def test_a_gap_is_one_sentence(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "data")
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind / "3.png").unlink()
    done = run(tmp_path / "data", "--weights", trained / "out" / "model_final.pth")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("evaluate_video.py: error: frames of 'tiny' must be 1 apart")
    assert "2 to 4" in line and "Traceback" not in done.stderr
