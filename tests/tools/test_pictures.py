"""The commands that draw zooms and training curves, in processes of their own."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import RECIPE, train_tiny, write_tiny_data

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / script, *arguments]
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_zoom_and_field_segmentor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_DATA", str(write_tiny_data(tmp_path)))
    train_tiny(tmp_path / "out", "train.max_iter=2", "train.deterministic=False")
    weights = tmp_path / "out" / "model_final.pth"
    picture = tmp_path / "images" / "1.png"
    common = ["--config-file", RECIPE, "--weights", weights, "--input", picture]
    window = ["--crop", 4, 8, 14, 20]
    done = run(
        *("projects/IFA/draw_zoom.py", *common, *window, "--output", tmp_path / "zoom.png"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # Two columns of panels four pictures wide, the first row 160 rows high, as the second.
    assert Image.open(tmp_path / "zoom.png").size == (2 * 4 * 48 + 6, 2 * 4 * 40 + 6)
    done = run(
        *("projects/IFA/draw_zoom.py", *common, "--output", tmp_path / "bad.png"),
        *("--crop", 4, 8, 4, 20),
        cwd=tmp_path,
    )
    assert done.returncode != 0 and "window must have y1 > y0" in done.stderr
    assert not (tmp_path / "bad.png").exists()

    drawn = run(
        *("tools/demo.py", *common, "--output", tmp_path / "drawn", "--"),
        "model._target_=ifa_d2.modeling.FieldSegmentor",
        cwd=tmp_path,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert np.asarray(Image.open(tmp_path / "drawn" / "1.png")).ndim == 3


def test_curve_keeps_a_figure_that_comes_back(tmp_path: Path) -> None:
    """A line repeats the last evaluation until there is a new one; figures go up and down."""
    read_curve = runpy.run_path(str(ROOT / "tools" / "plot_metrics.py"))["read_curve"]
    values = [None, 30.0, 30.0, 40.0, 30.0, 30.0, 40.0]
    rows = [
        {"iteration": index, "loss_sem_seg": 1.0}
        | ({} if value is None else {"sem_seg/mIoU": value})
        for index, value in enumerate(values)
    ]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    assert read_curve(tmp_path, "sem_seg/mIoU") == ([2, 4, 5, 7], [30.0, 40.0, 30.0, 40.0])
    assert read_curve(tmp_path, "loss_sem_seg") == (list(range(1, 8)), [1.0] * 7)


def test_curves(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = [{"iteration": i, "loss_sem_seg": 2 - i / 10, "sem_seg/mIoU": 30.0} for i in range(5)]
    (tmp_path / "run" / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    done = run("tools/plot_metrics.py", r"$\frac$=run", "--output", "c.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "c.png").size[0] > 800
    done = run("tools/plot_metrics.py", "IFA=away", "--output", "d.png", cwd=tmp_path)
    assert done.returncode != 0 and "metrics.json does not exist" in done.stderr
