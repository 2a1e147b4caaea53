"""What goes to the terminal and what to the file."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ifa_d2.engine import logs
from ifa_d2.engine.settings import TrainSettings
from tests.tiny import tiny_config, train_tiny, write_tiny_data

LINES = (
    ("ifa_d2.engine.trainer", logging.INFO, "the plan", True),
    ("ifa_d2.engine.trainer", logging.DEBUG, "a detail", False),
    ("detectron2.utils.events", logging.INFO, " iter: 19  total_loss: 1", True),
    ("detectron2.evaluation.evaluator", logging.INFO, "Start inference on 7 batches", False),
    ("detectron2.evaluation.evaluator", logging.INFO, "Inference done 3/7", True),
    ("detectron2.data.build", logging.INFO, "Serialized dataset", False),
    ("detectron2.data.build", logging.WARNING, "a warning", True),
    ("fvcore.common.checkpoint", logging.WARNING, "Some model parameters", False),
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No handler of this test's outlives it."""
    yield
    while logs._handlers:
        logger, handler = logs._handlers.pop()
        logger.removeHandler(handler)


def _say() -> None:
    for name, level, text, _ in LINES:
        logging.getLogger(name).log(level, text)


@pytest.mark.parametrize("verbose", [False, True])
def test_each_line_once_where_it_belongs(
    tmp_path: Path, capsys: pytest.CaptureFixture, verbose: bool
) -> None:
    """Also where a run follows another in one process."""
    for name in ("first", "second"):
        logs.setup_logs(str(tmp_path / name), 0, verbose=verbose)
    capsys.readouterr()
    _say()
    out = capsys.readouterr().out
    file = (tmp_path / "second" / "log.txt").read_text()
    for _, _, text, shown in LINES:
        assert out.count(text) == int(shown or verbose), text
        assert file.count(text) == 1, text
    assert (tmp_path / "first" / "log.txt").read_text() == ""


def test_other_processes_have_a_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    logs.setup_logs(str(tmp_path), 1)
    _say()
    assert capsys.readouterr().out == ""
    assert (tmp_path / "log.txt.rank1").read_text().count("the plan") == 1


def test_a_logger_that_was_made_quiet_stays_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    logger = logging.getLogger("detectron2")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        logs.setup_logs(str(tmp_path), 0, verbose=True)
        capsys.readouterr()
        _say()
    finally:
        logger.setLevel(before)
    assert "a warning" not in capsys.readouterr().out
    assert "a warning" not in (tmp_path / "log.txt").read_text()
    assert "the plan" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("period", "said"),
    [(3, "evaluated every 3 and at the end"), (7, "evaluated at the end"), (0, "evaluated at the")],
)
def test_the_plan_names_evaluations_that_take_place(tmp_path: Path, period: int, said: str) -> None:
    keys = ("train.max_iter=6", f"train.eval_period={period}")
    cfg = tiny_config(tmp_path, *keys)
    plan = logs.plan_sentence(cfg, TrainSettings.from_config(cfg), start_iter=0, pictures=7)
    assert "iterations 0 to 6 of 4 pictures" in plan and f", {said}" in plan


def test_the_first_iteration_is_said_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one in a period, and the last; the files of figures have none more for it."""
    monkeypatch.setenv("TINY_DATA", str(write_tiny_data(tmp_path)))
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)
    keys = ("train.max_iter=5", "train.log_period=2", "train.eval_period=0")
    with caplog.at_level(logging.INFO, "detectron2.utils.events"):
        train_tiny(tmp_path / "out", *keys)
    said = [re.search(r"iter: (\d+) ", record.getMessage()) for record in caplog.records]
    assert [int(one[1]) for one in said if one] == [0, 1, 3, 4]
    rows = map(json.loads, (tmp_path / "out" / "metrics.json").read_text().splitlines())
    assert [row["iteration"] for row in rows if "total_loss" in row] == [1, 3, 4]
