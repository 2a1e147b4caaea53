"""The measurement of a raster, by its command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import RECIPE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_memory_bytes_and_seams(trained: Path, tmp_path: Path) -> None:
    weights = trained / "out" / "model_final.pth"
    command = [
        *(sys.executable, ROOT / "projects" / "IFA" / "measure_raster.py"),
        *("--config-file", RECIPE, "--weights", weights, "--side", 300, "--kills", 1),
        *("--folder", tmp_path, "--crop", 300, "--json", tmp_path / "a.json"),
        *("--sliding-window", 32, 32, "--", f"train.output_dir={trained / 'out'}"),
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "TINY_DATA": str(trained), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["same_bytes"] is True and found["killed"]["kills"] == 1
    assert 0 < found["once"]["peak_mib"] < 1536
    assert 0.5 < found["equal"] <= 1
