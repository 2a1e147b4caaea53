"""The walk-through as a whole, on small pictures."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.forked_python import forked_python
from tests.tiny import RECIPE, write_tiny_data

ROOT = Path(__file__).parents[2]
PICTURES = ("1_training", "2_sizes", "3_windows", "4_points", "5_confidence")


def test_arguments_are_the_command_lines_or_in_jupyter_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    text = (ROOT / "projects" / "IFA" / "walkthrough.py").read_text()
    cell = tmp_path / "cell.py"
    cell.write_text(text.partition("# %% [markdown]")[0])
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", "--iterations", "2", "train.seed=3"])
    args = runpy.run_path(str(cell))["args"]
    assert (args.iterations, args.opts) == (2, ["train.seed=3"])
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", "--itrations", "2"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(cell))
    assert "unrecognized arguments: --itrations" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    args = runpy.run_path(str(cell))["args"]
    assert (args.iterations, args.opts) == (300, [])


def test_every_cell_runs_and_draws(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path)
    command = [
        *(forked_python(), ROOT / "projects" / "IFA" / "walkthrough.py"),
        *("--config-file", RECIPE, "--dataset", "tiny", "--iterations", 2),
        *("--output", tmp_path / "drawn", "train.eval_period=0"),
    ]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TINY_DATA": str(data)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "40 x 48 pixels, 3 classes" in done.stdout
    assert "window (17, 21, 22, 27): 80 x 96 samples" in done.stdout
    pictures = [np.asarray(Image.open(tmp_path / "drawn" / f"{name}.png")) for name in PICTURES]
    assert pictures[1].shape == pictures[2].shape == (2 * 400 + 6, 2 * 480 + 6, 3)
    assert pictures[3].shape == (40 * 15, 48 * 15, 3)
    # The points are drawn: white rings that the picture has none of.
    assert (pictures[3] == 255).all(axis=-1).sum() > 100
    assert all(picture.std() > 5 for picture in pictures)
