"""The commands that draw zooms and training curves, in processes of their own."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifa_d2.cli import plot_metrics
from tests.forked_python import forked_python
from tests.tiny import RECIPE, train_tiny, write_tiny_data

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    command = [forked_python(), ROOT / script, *arguments]
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
        *("projects/IFA/draw_zoom.py", *common, *window, "--outlines", "--legend"),
        *("--output", tmp_path / "legend.png"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    width, height = Image.open(tmp_path / "legend.png").size
    assert width == 2 * 4 * 48 + 6 and height > 2 * 4 * 40 + 6
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


def write_run(folder: Path, rows: list[dict[str, float]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_figures_stand_at_the_iterations_that_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real run's file: an evaluation after each two iterations, and at the end."""
    monkeypatch.setenv("TINY_DATA", str(write_tiny_data(tmp_path)))
    train_tiny(tmp_path / "out", "train.max_iter=5", "train.eval_period=2", "train.log_period=1")
    rows = plot_metrics.read_rows(tmp_path / "out")
    assert plot_metrics.curve(rows, "loss_sem_seg")[0] == [1, 2, 3, 4, 5]
    iterations, values = plot_metrics.curve(rows, "sem_seg/mIoU")
    assert iterations == [2, 4, 5]
    assert values == [row["sem_seg/mIoU"] for row in rows if "sem_seg/mIoU" in row]


def test_equal_figures_are_all_drawn(tmp_path: Path) -> None:
    values = [30.0, 30.0, 40.0, 30.0]
    rows = [{"iteration": i, "loss_sem_seg": 1.0, "sem_seg/mIoU": v} for i, v in enumerate(values)]
    assert plot_metrics.curve(rows, "sem_seg/mIoU") == ([1, 2, 3, 4], values)


def test_a_name_has_one_colour_in_both_panels(tmp_path: Path) -> None:
    """Also where a run has no evaluation yet, and where runs share a name."""
    rows = [{"iteration": i, "loss_sem_seg": 2.0 - i, "sem_seg/mIoU": 30.0} for i in range(3)]
    runs = [("a", write_run(tmp_path / "a", [{"iteration": 0, "loss_sem_seg": 1.0}]))]
    runs += [(name, write_run(tmp_path / folder, rows)) for name, folder in ("bc", "bd", "ef")]
    figure = plot_metrics.draw(runs)
    colors = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colors == [["C0", "C1", "C1", "C2"]] * 2
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "e"]


def test_curves(tmp_path: Path) -> None:
    rows = [{"iteration": i, "loss_sem_seg": 2 - i / 10, "sem_seg/mIoU": 30.0} for i in range(5)]
    write_run(tmp_path / "run", rows)
    write_run(tmp_path / "other", [{"iteration": 0, "time": 1.0}])
    done = run("tools/plot_metrics.py", r"$\frac$=run", "--output", "c.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "c.png").size[0] > 800
    done = run("tools/plot_metrics.py", "IFA=run", "--output", "c.pdf", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
    for name, output, message in (
        ("away", "d.png", "metrics.json does not exist"),
        ("other", "d.png", "has neither loss_sem_seg nor sem_seg/mIoU"),
        ("run", "d.txt", "must end in one of .png, .pdf, .svg, got 'd.txt'"),
    ):
        done = run("tools/plot_metrics.py", f"IFA={name}", "--output", output, cwd=tmp_path)
        assert done.returncode != 0 and message in done.stderr
        assert not (tmp_path / output).exists()
