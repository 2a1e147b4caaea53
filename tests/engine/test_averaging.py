"""Averaged weights: what is averaged, evaluated, saved and resumed."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase

from ifa_d2.engine import Trainer
from ifa_d2.engine.run import setup_run
from ifa_d2.engine.settings import TrainSettings
from tests.tiny import assert_same, tiny_config, train_tiny

DECAY = "train.ema.decay=0.6"


class Recorder(HookBase):
    """Keeps the trained weights after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def after_step(self) -> None:
        self.states.append(copy.deepcopy(self.trainer.model.state_dict()))


@pytest.fixture(scope="module")
def averaged(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """The folder of a run of 6 iterations, and its trained weights after each."""
    output = tmp_path_factory.mktemp("averaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(tiny_folder))
        cfg = tiny_config(output, DECAY)
        setup_run(cfg)
        trainer = Trainer(cfg)
        trainer.register_hooks([recorder := Recorder()])
        trainer.train()
    return output, recorder.states


def _final(folder: Path) -> dict:
    return torch.load(folder / "model_final.pth", weights_only=True)


def test_the_average_is_saved_beside_the_trained_weights(averaged) -> None:
    folder, states = averaged
    expected = copy.deepcopy(states[0])
    for step, state in enumerate(states):
        decay = min(1 - (1 + step) ** (-2 / 3), 0.6)
        for name, value in state.items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value
    saved = _final(folder)
    for name, value in expected.items():
        torch.testing.assert_close(saved["model"][name], value, rtol=1e-4, atol=1e-6)
    assert_same(saved["trainer"]["hooks"]["WeightAverage"], dict(states[-1]))
    key = "backbone.stem.conv1.weight"
    assert not torch.equal(saved["model"][key], states[-1][key])


def test_training_goes_on_as_without(averaged, finished: Path) -> None:
    """The average is looked at, and changes nothing."""
    assert_same(dict(averaged[1][-1]), dict(_final(finished)["model"]))


def test_the_average_is_what_is_evaluated(averaged, tmp_path: Path) -> None:
    folder, _ = averaged
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    model = Trainer.build_model(cfg := tiny_config(tmp_path))
    model.load_state_dict(_final(folder)["model"])
    figure = Trainer.test(cfg, model)["sem_seg"]["mIoU"]
    assert rows[-1]["sem_seg/mIoU"] == pytest.approx(figure)


def test_a_resumed_average_is_that_of_the_uninterrupted_run(averaged, tmp_path: Path) -> None:
    shutil.copy(averaged[0] / "model_0000002.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    assert_same(train_tiny(tmp_path, DECAY, resume=True), _final(averaged[0]))


def test_an_average_begins_with_the_initial_weights(finished: Path, tmp_path: Path) -> None:
    weights = finished / "model_final.pth"
    trainer = Trainer(tiny_config(tmp_path, DECAY, f"train.init_checkpoint={weights}"))
    trainer.resume_or_load(resume=False)
    for model in (trainer.model, trainer.evaluated_model):
        assert_same(dict(model.state_dict()), dict(_final(finished)["model"]))
    assert trainer.model is not trainer.evaluated_model


@pytest.mark.parametrize("was_averaged", [False, True])
def test_a_resume_may_not_switch_it(
    averaged, finished: Path, tmp_path: Path, was_averaged: bool
) -> None:
    shutil.copy((averaged[0] if was_averaged else finished) / "model_0000002.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    trainer = Trainer(tiny_config(tmp_path, *([] if was_averaged else [DECAY])))
    words = "are averaged, and .* are not" if was_averaged else "are not averaged, and .* are"
    with pytest.raises(ValueError, match=rf"cannot be resumed from.*{words} \(train.ema.decay\)"):
        trainer.resume_or_load(resume=True)


@pytest.mark.parametrize("decay", ["1.0", "-0.1", "1.5"])
def test_decays_that_are_none(tmp_path: Path, decay: str) -> None:
    with pytest.raises(ValueError, match=rf"train.ema.decay must be in \[0, 1\).* got {decay}"):
        TrainSettings.from_config(tiny_config(tmp_path, f"train.ema.decay={decay}"))


def test_statistics_are_averaged_or_precise(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, DECAY, "train.precise_bn_iters=3")
    with pytest.raises(ValueError, match=r"ema\.decay averages .* got 0.6 and 3"):
        TrainSettings.from_config(cfg)
