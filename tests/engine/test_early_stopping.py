"""Trainings that end because nothing gets better."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from ifa_d2.engine import Trainer, evaluate
from ifa_d2.engine.early_stopping import evaluations_since_best
from ifa_d2.engine.settings import TrainSettings
from tests.tiny import assert_same, tiny_config, train_tiny

# Nothing moves, so that the first figure is the best: two more, and the training ends.
STILL = (
    *("train.max_iter=20", "train.eval_period=2", "train.checkpointer.period=4"),
    *("optimizer.lr=0.0", "model.backbone.stem.norm=FrozenBN", "train.early_stopping.patience=2"),
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    output = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(tiny_folder))
        train_tiny(output, *STILL)
    return output


def _rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def _final(folder: Path) -> dict:
    return torch.load(folder / "model_final.pth", weights_only=True)


def test_it_ends_after_the_last_patience(stopped: Path) -> None:
    assert _final(stopped)["iteration"] == _final(stopped)["trainer"]["iteration"] == 5
    assert (stopped / "last_checkpoint").read_text() == "model_final.pth"
    evaluated = [row["iteration"] for row in _rows(stopped) if "sem_seg/mIoU" in row]
    assert evaluated == [1, 3, 5]
    assert "not above its best in 2 evaluations" in (stopped / "log.txt").read_text()
    best = torch.load(stopped / "model_best.pth", weights_only=True)
    assert best["iteration"] == 1


def test_a_run_that_has_ended_ends_again(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    shutil.copytree(stopped, output)
    before = (output / "metrics.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "inference_on_dataset", None)
        run = Trainer(tiny_config(output, *STILL))
        run.resume_or_load(resume=True)
        assert run.train()["sem_seg"]["mIoU"] == _rows(stopped)[5]["sem_seg/mIoU"]
    assert (output / "metrics.json").read_bytes() == before
    assert_same(_final(output), _final(stopped))
    # With more patience it goes on.
    train_tiny(output, *STILL, "train.early_stopping.patience=3", resume=True)
    assert _final(output)["iteration"] == 7


def test_a_resumed_run_ends_where_the_other_did(stopped: Path, tmp_path: Path) -> None:
    shutil.copy(stopped / "model_0000003.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    rows = [row for row in _rows(stopped) if row["iteration"] < 4]
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert_same(train_tiny(tmp_path, *STILL, resume=True), _final(stopped))


@pytest.mark.parametrize(
    ("figures", "count"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, 2.0], 0),
        ([2.0, 1.0, 1.5], 2),
        ([1.0, 2.0, 2.0], 1),
        ([math.nan, 1.0, math.nan], 1),
        ([math.nan, math.nan], 2),
    ],
)
def test_evaluations_since_the_best(figures: list[float], count: int) -> None:
    assert evaluations_since_best(figures) == count


def test_patience_needs_evaluations(tmp_path: Path) -> None:
    keys = ("train.eval_period=0", "train.early_stopping.patience=2")
    with pytest.raises(ValueError, match=r"patience needs evaluations.* train\.eval_period above"):
        TrainSettings.from_config(tiny_config(tmp_path, *keys))
    with pytest.raises(ValueError, match=r"early_stopping\.patience must be 0 or a whole number"):
        TrainSettings.from_config(tiny_config(tmp_path, "train.early_stopping.patience=-1"))
