"""Trainers that are made from Python, without a command's ``setup_run``."""

import copy
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig

from ifa_d2 import get_config
from ifa_d2.engine import Trainer, logs
from ifa_d2.engine.output_dir import locked_output
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.engine.run_start import with_output_dir
from tests.tiny import RECIPE, assert_same, tiny_config, train_tiny, write_tiny_data

SHORT = ("train.max_iter=2", "train.eval_period=0")


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = write_tiny_data(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(root))
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """As in a new process; logs of this test do not outlive it."""
    _forget_logs()
    yield
    _forget_logs()


def _forget_logs() -> None:
    while logs._handlers:
        logger, handler = logs._handlers.pop()
        logger.removeHandler(handler)


def test_it_is_the_run_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = train_tiny(tmp_path / "command", *SHORT)
    _forget_logs()
    torch.manual_seed(77)
    capsys.readouterr()
    trainer = Trainer(tiny_config(tmp_path / "python", *SHORT))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert_same(torch.load(tmp_path / "python" / "model_final.pth", weights_only=True), expected)
    files = [
        {path.name for path in (tmp_path / name).glob("*.*")} for name in ("command", "python")
    ]
    events = [{name for name in found if "tfevents" in name} for found in files]
    assert files[0] - events[0] == files[1] - events[1] and len(events[1]) == 1
    shown = capsys.readouterr().out
    assert "Training on tiny (7 pictures): iterations 0 to 2" in shown and "total_loss" in shown
    written = (tmp_path / "python" / "log.txt").read_text()
    assert written.count("Training on tiny (7 pictures)") == 1


def test_it_says_what_is_odd_about_the_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Trainer(tiny_config(tmp_path, "dataloader.train.mapper.augmentations.short_edge=16"))
    assert "tested at another scale" in capsys.readouterr().out


def test_the_command_s_logs_and_seeds_stay(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, *SHORT)
    setup_run(cfg, verbose=True)
    before = list(logs._handlers)
    draws = torch.get_rng_state()
    trainer = Trainer(cfg)
    trainer.train()
    assert logs._handlers == before
    _forget_logs()
    setup_run(cfg, eval_only=True)
    assert torch.equal(torch.get_rng_state(), draws)


def test_two_trainings_in_one_process(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each has its own log, the second of a folder too."""
    for name in ("first", "second"):
        Trainer(tiny_config(tmp_path / name, *SHORT)).train()
    longer = tiny_config(tmp_path / "first", "train.max_iter=3", "train.eval_period=0")
    trainer = Trainer(longer, resume=True)
    capsys.readouterr()
    trainer.resume_or_load(resume=True)
    trainer.train()
    assert "iterations 2 to 3" in capsys.readouterr().out
    texts = [(tmp_path / name / "log.txt").read_text() for name in ("first", "second")]
    assert [text.count("Training on tiny") for text in texts] == [2, 1]


def test_a_run_s_folder_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path, *SHORT)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _forget_logs()
    trainer = Trainer(tiny_config(tmp_path, *SHORT))
    words = r"holds a run already .* --resume \(resume_or_load\(resume=True\) in Python\)"
    with pytest.raises(ValueError, match=words):
        trainer.train()
    with pytest.raises(ValueError, match=words):
        trainer.resume_or_load(resume=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    trainer.resume_or_load(resume=True)
    assert trainer.train()["sem_seg"]["mIoU"] >= 0


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(tmp_path, *SHORT))
    with locked_output(tmp_path), pytest.raises(ValueError, match="is in use by a training"):
        trainer.train()
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


@pytest.mark.parametrize("name", ["camvid/ifa_r18.py", "panoptic/coco/panoptic_ifa_r50.py"])
def test_the_folder_is_named_as_by_the_command(name: str) -> None:
    cfg = get_config(name)
    before = copy.deepcopy(cfg)
    named = with_output_dir(cfg)
    assert named.train.output_dir == load_config(name).train.output_dir
    assert cfg == before and not cfg.train.output_dir
    cfg.train.output_dir = "elsewhere"
    assert with_output_dir(cfg) is cfg


def test_a_trainer_works_in_the_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = LazyConfig.load(str(RECIPE))
    with pytest.raises(
        ValueError, match=r"train\.output_dir must name a folder, got \'\': .* none"
    ):
        Trainer(cfg)
    assert not list(tmp_path.iterdir())
    cfg.recipe = "some/recipe"
    cfg.train.update(max_iter=1, eval_period=0)
    cfg.dataloader.evaluator.output_dir = "${train.output_dir}"
    Trainer(cfg).train()
    folder = tmp_path / "output" / "some" / "recipe"
    names = ("log.txt", "config.yaml", "model_final.pth", "sem_seg_evaluation.json")
    assert all((folder / name).is_file() for name in names)
    assert load_config(str(folder / "config.yaml")).train.output_dir == "./output/some/recipe"


def test_a_recipe_of_one_s_own_takes_its_own_name(tmp_path: Path) -> None:
    """What it takes from another does not bring that one's folder with it."""
    file = tmp_path / "leaves.py"
    file.write_text(
        "from ifa_d2 import get_config\n"
        "_recipe = get_config('camvid/ifa_r18.py')\n"
        "dataloader, model, train = _recipe.dataloader, _recipe.model, _recipe.train\n"
        "lr_multiplier, optimizer = _recipe.lr_multiplier, _recipe.optimizer\n"
    )
    assert load_config(str(file)).train.output_dir == "./output/leaves"


def test_logs_are_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not logs.has_logs(str(tmp_path))
    logs.setup_logs(str(tmp_path), 0)
    monkeypatch.chdir(tmp_path.parent)
    assert logs.has_logs(tmp_path.name) and not logs.has_logs(str(tmp_path.parent))
    logs.setup_logs(None, 0)
    assert not logs.has_logs(str(tmp_path))
    assert logging.getLogger("ifa_d2").handlers
