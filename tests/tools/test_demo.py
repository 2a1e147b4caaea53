"""The command in a process of its own, on the trainer's small pictures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.engine.tiny import RECIPE

ROOT = Path(__file__).parents[2]


def run(root: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "demo.py", *arguments]
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
    )


def width_in_panels(path: Path) -> int:
    """Panels in a row of drawings of the 40 x 48 pictures."""
    width = Image.open(path).size[0]
    assert (width + 6) % (480 + 6) == 0
    return (width + 6) // (480 + 6)


def test_pictures_of_a_data_set(trained: Path, tmp_path: Path) -> None:
    done = run(
        trained,
        *("--config-file", RECIPE, "--dataset", "tiny"),
        *("--weights", trained / "out" / "model_final.pth"),
        *("--num", 5, "--output", tmp_path / "drawn"),
    )
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["0.png", "1.png", "2.png", "4.png", "5.png", "sheet.png"]
    assert width_in_panels(tmp_path / "drawn" / "0.png") == 3
    height = Image.open(tmp_path / "drawn" / "0.png").size[1]
    assert Image.open(tmp_path / "drawn" / "sheet.png").size[1] == 3 * (height + 6) - 6
    assert f"all of them in {tmp_path / 'drawn' / 'sheet.png'}" in done.stdout


def test_files_with_and_without_labels(trained: Path, tmp_path: Path) -> None:
    common = (
        *("--config-file", RECIPE, "--weights", trained / "out" / "model_final.pth"),
        *("--output", tmp_path, "--input", trained / "images" / "1.png"),
    )
    run(trained, *common)
    assert width_in_panels(tmp_path / "1.png") == 2
    first = np.asarray(Image.open(tmp_path / "1.png"))
    run(trained, *common, "--ground-truth", trained / "labels" / "1.png")
    assert width_in_panels(tmp_path / "1.png") == 3
    assert (np.asarray(Image.open(tmp_path / "1.png"))[:, : first.shape[1]] == first).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "images/1.png"], "weights must be given"),
        (["--dataset", "nowhere"], "no data set 'nowhere', only"),
    ],
)
def test_errors_are_one_sentence(
    trained: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(trained, "--config-file", RECIPE, "--output", tmp_path, *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
