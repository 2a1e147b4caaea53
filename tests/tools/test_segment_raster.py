"""The command in a process of its own: what it writes, and in how much memory."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from ifa_d2.engine import Predictor
from ifa_d2.engine.predictor import load_model
from ifa_d2.rasters import segment_raster
from tests.rasters.made import UTM, make_pixels, read_labels, write_raster
from tests.tiny import RECIPE, tiny_config

ROOT = Path(__file__).parents[2]
# What Linux says of the program alone: getrusage also counts what the process was before it.
MEMORY = """
import atexit, re, runpy, sys
from pathlib import Path
def write_peak():
    kib = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    Path("peak.json").write_text(str(int(kib) / 1024))
atexit.register(write_peak)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(root: Path, folder: Path, *arguments: object) -> subprocess.Popen:
    weights = root / "out" / "model_final.pth"
    options = ("--config-file", RECIPE, "--weights", weights, *arguments)
    command = [sys.executable, "-c", MEMORY, ROOT / "tools" / "segment_raster.py", *options]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TINY_DATA": str(root)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(root: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    process = start(root, folder, *arguments)
    said = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def test_a_raster_larger_than_a_block(trained: Path, tmp_path: Path) -> None:
    """Its labels, where it lies, its colours; and it never took 1.5 GiB."""
    pixels = np.tile(make_pixels(400, 500), (1, 3, 3))
    write_raster(tmp_path / "a.tif", pixels, **UTM)
    flags = ("--sliding-window", 256, 256, "--stride", 192, 192)
    done = run(trained, tmp_path, "--input", "a.tif", "--output", "b.tif", *flags)
    assert done.returncode == 0, done.stderr
    assert "1200 x 1500 labels in b.tif" in done.stdout
    assert "segmenting: 100%" in done.stderr and "Warning" not in done.stderr
    with rasterio.open(tmp_path / "b.tif") as written:
        assert written.crs == UTM["crs"] and written.transform == UTM["transform"]
        assert written.overviews(1)
        assert written.colormap(1)[1] != written.colormap(1)[0]
    model = load_model(tiny_config(trained / "out"), str(trained / "out" / "model_final.pth"))
    part = np.ascontiguousarray(pixels[::-1].transpose(1, 2, 0)[:640, :640])
    whole = Predictor(model)(part).labels().numpy()
    inner = (slice(64, 576), slice(64, 576))  # what the features see of the cut lies beyond
    assert (read_labels(tmp_path / "b.tif")[inner] == whole[inner]).mean() >= 0.999
    assert json.loads((tmp_path / "peak.json").read_text()) < 1536


def test_a_killed_command_goes_on(trained: Path, tmp_path: Path) -> None:
    """With --resume alone, and to the bytes of one that was not interrupted."""
    path = write_raster(tmp_path / "a.tif", make_pixels(900, 900), **UTM)
    flags = ("--sliding-window", 48, 48, "--no-colors", "--input", path, "--output", "b.tif")
    process = start(trained, tmp_path, *flags)
    while not list(tmp_path.glob(".b.tif.parts/block_*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (tmp_path / "b.tif").exists()
    done = run(trained, tmp_path, *flags, "--resume", "--num-processes", 2)
    assert done.returncode == 0, done.stderr
    model = load_model(tiny_config(trained / "out"), str(trained / "out" / "model_final.pth"))
    segment_raster(Predictor(model), path, tmp_path / "c.tif", window=(48, 48))
    assert (tmp_path / "b.tif").read_bytes() == (tmp_path / "c.tif").read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "a.tif",
        "b.tif",
        "c.tif",
        "peak.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tta"], "unrecognized arguments: --tta"),
        (["inference.tta=true"], "inference.tta must be off for a raster"),
        (["--scale", "2", "--ground-distance", "1"], "not allowed with argument"),
        (["--sliding-window", "8", "8", "--stride", "9", "9"], "at most the window's 8, got 9"),
        (["--output", "b.jpg"], "output must end in .tif or .tiff, got b.jpg"),
        (["--input", "gone.tif"], "gone.tif: No such file"),
    ],
)
def test_errors_are_one_sentence(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_DATA", str(trained))
    write_raster(tmp_path / "a.tif", make_pixels(20, 20))
    weights = str(trained / "out" / "model_final.pth")
    options = ["--config-file", str(RECIPE), "--weights", weights, "--input", "a.tif"]
    command = ["segment_raster.py", *options, "--output", "b.tif", *arguments]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools" / "segment_raster.py"), run_name="__main__")
    assert message in f"{ended.value.code} {capsys.readouterr().err}"
    assert os.listdir() == ["a.tif"]
