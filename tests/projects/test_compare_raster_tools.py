"""A raster's labels by two tools; the other needs TorchGeo, which the tests do not install."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from compare_raster_tools import OURS, THEIRS, equal_shares, main

from tests.tiny import RECIPE


def write(path: Path, labels: np.ndarray) -> Path:
    height, width = labels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(labels, 1)
    return path


@pytest.mark.filterwarnings("ignore:.*no geotransform")
def test_shares_are_of_all_and_of_what_is_near_borders(tmp_path: Path) -> None:
    """Windows of 48 at 0 and 32 end at 48 and begin at 32: 24 to 56 is near, across and along."""
    args = argparse.Namespace(side=80, window=48, stride=32)
    whole, found = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.uint8)
    found[:24, :24] = 1  # far from all borders
    found[60:70, 40] = 1  # near one
    shares = equal_shares(args, write(tmp_path / "a.tif", found), whole)
    assert shares["equal"] == pytest.approx(1 - (24 * 24 + 10) / 80**2)
    assert shares["equal_near"] == pytest.approx(1 - 10 / (80**2 - 48**2))


@pytest.mark.parametrize(
    ("flag", "value"), [("--stride", "0"), ("--stride", "50"), ("--side", "40")]
)
def test_windows_that_do_not_fit_are_refused(
    flag: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    sizes = {"--side": "96", "--window": "48", "--stride": "32", flag: value}
    words = [word for pair in sizes.items() for word in pair]
    command = ["x", "--config-file", str(RECIPE), "--folder", str(tmp_path), *words]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "--stride must be from 1 to --window" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_both_tools(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchgeo")
    monkeypatch.setenv("TINY_DATA", str(trained))
    command = ["x", "--config-file", str(RECIPE), "--folder", str(tmp_path), "--repeats", "1"]
    command += ["--weights", str(trained / "out" / "model_final.pth"), "--json", f"{tmp_path}/a"]
    command += ["--side", "160", "--window", "96", "--stride", "64"]
    monkeypatch.setattr("sys.argv", command)
    main()
    rows = json.loads((tmp_path / "a").read_text())["rows"]
    assert [row["tool"] for row in rows] == [OURS, THEIRS]
    assert all(row["equal"] > 0.5 and row["seconds"] > 0 for row in rows)
