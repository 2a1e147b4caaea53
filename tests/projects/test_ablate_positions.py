"""Positions averaged over a cell: what is left, and the command."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ifa_d2.evaluation.picture_counts import PictureCounts
from ifa_d2.layers import GridQuery, ImplicitAlignment
from tests.forked_python import forked_python
from tests.tiny import RECIPE

FOLDER = Path(__file__).parents[2] / "projects" / "IFA"


@pytest.fixture(scope="module")
def ablation():
    """The script, which imports its neighbours by their names."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("ablate_positions")
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("ensemble", [False, True])
def test_of_a_linear_field_the_mean_over_a_cell_stays(ablation, ensemble):
    places = ablation._PLACES
    options = {"hidden_dims": (), "local_ensemble": ensemble, "integrated_encoding": True}
    layer = ImplicitAlignment(in_channels=(2,), num_classes=3, **options).eval()
    levels, query = [torch.randn(1, 2, 2, 3)], GridQuery.regular(2 * places, 3 * places)
    with torch.no_grad():
        as_trained = layer(levels, query)
        ablation.average_positions(layer)
        difference = as_trained - layer(levels, query)
    # A cell, or from the centre of one to that of the next.
    first = places // 2 if ensemble else 0
    cell = difference[..., first : first + places, first : first + places]
    assert cell.abs().max() > 0.01
    assert cell.mean((2, 3)).abs().max() < 1e-4


def test_without_the_ensemble_a_cell_is_one_answer(ablation):
    layer = ImplicitAlignment(in_channels=(4, 3), num_classes=3, hidden_dims=(8,)).eval()
    levels = [torch.randn(1, 4, 4, 6), torch.randn(1, 3, 2, 3)]
    coarse, fine = GridQuery.regular(4, 6), GridQuery.regular(20, 30)

    def apart() -> float:
        with torch.no_grad():
            cells = layer(levels, coarse).repeat_interleave(5, 2).repeat_interleave(5, 3)
            return float((layer(levels, fine) - cells).abs().max())

    assert apart() > 0.01
    ablation.average_positions(layer)
    assert apart() < 1e-5


def test_the_ensemble_cancels_the_offset(ablation):
    """Weighted bilinearly, the offsets from two cells add up to nothing between their centres."""
    layer = ImplicitAlignment(
        in_channels=(4,), num_classes=3, hidden_dims=(8,), encoding="coord", local_ensemble=True
    ).eval()
    levels, query = [torch.randn(1, 4, 4, 6)], GridQuery.regular(40, 60)
    with torch.no_grad():
        as_trained = layer(levels, query)
        ablation.average_positions(layer)
        difference = (layer(levels, query) - as_trained).abs()
    assert difference[..., 5:35, 5:55].max() < 1e-5
    assert difference.max() > 0.01  # beyond the outer centres, where one cell answers alone


def test_what_cannot_be_averaged_is_named(ablation):
    for options, message in (
        ({"encoding": "none"}, "must have positions to average, got encoding 'none'"),
        ({"coupled_frequencies": True}, "coupled_frequencies must be False"),
        ({"feature_slopes": True}, "feature_slopes must be False"),
    ):
        layer = ImplicitAlignment(in_channels=(2,), num_classes=3, **options)
        with pytest.raises(ValueError, match=message):
            ablation.average_positions(layer)


def test_command(trained: Path, tmp_path: Path):
    command = [forked_python(), str(FOLDER / "ablate_positions.py"), "--config-file", str(RECIPE)]
    command += ["--weights", str(trained / "out" / "model_final.pth"), "--settings", "1/1", "0.5/4"]

    def run(*arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "TINY_DATA": str(trained), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, "--output", str(tmp_path), *arguments],
            env={**environment, "PYTHONPATH": str(FOLDER.parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert "averaged - as trained" in done.stdout and "mIoU" in done.stdout
    for setting in ("1_1", "0.5_4"):
        both = [
            PictureCounts.read(tmp_path / kind / "counts" / setting / "picture_counts.npz")
            for kind in ("as_trained", "averaged")
        ]
        assert both[0].pictures == both[1].pictures
        assert not np.array_equal(*(one.counts.toarray() for one in both))
    failed = run("--settings", "half")
    assert failed.returncode and "--settings must be SCALE/STRIDE" in failed.stderr
