"""Runs that were stopped, and what those that continue them take from the checkpoint."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from ifa_d2.engine import Trainer, evaluate
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.inputs import check_datasets
from ifa_d2.engine.interrupts import Interrupts
from ifa_d2.engine.output_dir import locked_output
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.engine.saved_config import changed_settings, config_text
from ifa_d2.modeling import TimmBackbone
from tests.tiny import RECIPE, assert_same, tiny_config, train_tiny


def _continued(finished: Path, output: Path, *overrides: str) -> Trainer:
    """A trainer that has resumed the run that was stopped after its first checkpoint."""
    output.mkdir(exist_ok=True)
    for name in ("model_0000002.pth", "config.yaml"):
        shutil.copy(finished / name, output)
    (output / "last_checkpoint").write_text("model_0000002.pth")
    run = Trainer(tiny_config(output, *overrides))
    run.resume_or_load(resume=True)
    return run


def _run(code: str, *arguments: object, status: int = -signal.SIGKILL) -> None:
    """Run Python in a process of its own, which ends with a status, by default as if killed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=RECIPE.parents[1], capture_output=True, text=True)
    assert done.returncode == status, done.stderr


def _load(path: str | Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def _rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def _figures(output: Path) -> dict[int, float]:
    return {row["iteration"]: row["sem_seg/mIoU"] for row in _rows(output) if "sem_seg/mIoU" in row}


# Trains into a folder, or goes on there, and dies before the evaluation of that number, or before
# the best of it; 0 lives.
_DIE = """
import os, signal, sys
from pathlib import Path
from ifa_d2.engine import evaluate, hooks
from tests.tiny import train_tiny

folder, period, number, where = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
calls = []

def dying(work):
    def work_or_die(*args):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*args)
    return work_or_die

if where == "evaluation":
    evaluate.inference_on_dataset = dying(evaluate.inference_on_dataset)
else:
    hooks.BestCheckpointer._compare = dying(hooks.BestCheckpointer._compare)
train_tiny(folder, period, resume=folder.exists())
"""


@pytest.mark.parametrize(
    ("log_period", "number", "where"),
    [(1, 1, "evaluation"), (4, 1, "best"), (4, 2, "evaluation")],
)
def test_a_kill_loses_no_figure(tmp_path: Path, log_period: int, number: int, where: str) -> None:
    """Wherever between a checkpoint and what is written of its iteration."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    period = f"train.log_period={log_period}"
    # All in processes alike, whatever this one was told of threads and kernels.
    _run(_DIE, whole, period, 0, where, status=0)
    _run(_DIE, part, period, number, where)
    _run(_DIE, part, period, 0, where, status=0)
    finals = [torch.load(one / "model_final.pth", weights_only=True) for one in (whole, part)]
    assert_same(*finals)
    assert [row["iteration"] for row in _rows(part)] == [row["iteration"] for row in _rows(whole)]
    times = {"time", "data_time", "rank_data_time", "eta_seconds"}
    names = [[set(row) - times for row in _rows(folder)] for folder in (whole, part)]
    assert names[0] == names[1]
    assert _figures(part) == _figures(whole)
    best = [torch.load(folder / "model_best.pth", weights_only=True) for folder in (whole, part)]
    assert best[0]["best_metric"] == best[1]["best_metric"]
    assert best[0]["iteration"] == best[1]["iteration"]
    assert_same(best[0]["model"], best[1]["model"])
    assert (part / "last_checkpoint").read_text() == "model_final.pth"


def test_a_run_that_is_done_is_not_done_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    before = (output / "metrics.json").read_bytes()
    (output / "last_checkpoint").write_text("model_0000005.pth")  # killed before the tag
    monkeypatch.setattr(evaluate, "inference_on_dataset", None)
    run = Trainer(tiny_config(output))
    run.resume_or_load(resume=True)
    results = run.train()
    assert (output / "metrics.json").read_bytes() == before
    assert results["sem_seg"]["mIoU"] == _figures(output)[6]
    assert (output / "last_checkpoint").read_text() == "model_final.pth"


def test_precise_statistics_are_those_of_the_uninterrupted_run(tmp_path: Path) -> None:
    overrides = ("train.precise_bn_iters=3", "train.eval_period=2")
    whole, part = tmp_path / "whole", tmp_path / "part"
    final = train_tiny(whole, *overrides)
    plain = train_tiny(tmp_path / "plain", "train.eval_period=2")
    key = "backbone.stem.conv1.norm.running_mean"
    assert not torch.equal(final["model"][key], plain["model"][key])  # they do something
    part.mkdir()
    shutil.copy(whole / "model_0000002.pth", part)
    (part / "last_checkpoint").write_text("model_0000002.pth")
    assert_same(final, train_tiny(part, *overrides, resume=True))


def test_changed_rate_and_decay_are_in_force(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ifa_d2")
    logging.getLogger("ifa_d2").propagate = True
    same = _continued(finished, tmp_path / "same")
    lines = [record.getMessage() for record in caplog.records]
    assert not [line for line in lines if "->" in line and "output_dir" not in line]
    other = _continued(finished, tmp_path / "other", "optimizer.lr=0.02", "optimizer.momentum=0.5")
    lines = [record.getMessage() for record in caplog.records]
    assert "Resumed with optimizer.lr: 0.01 -> 0.02" in lines
    assert "Resumed with optimizer.momentum: 0.9 -> 0.5" in lines
    groups = zip(same.optimizer.param_groups, other.optimizer.param_groups, strict=True)
    for one, two in groups:
        assert two["lr"] == pytest.approx(2 * one["lr"]) and one["lr"] > 0
        assert two["initial_lr"] == pytest.approx(2 * one["initial_lr"])
        assert (one["momentum"], two["momentum"]) == (0.9, 0.5)
    assert_same(same.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"])


def test_changed_seed_is_in_force(finished: Path, tmp_path: Path) -> None:
    same = _continued(finished, tmp_path / "same", "train.seed=5")
    other = _continued(finished, tmp_path / "other", "train.seed=6")
    assert (same.data_seed, other.data_seed) == (5, 6)
    results = [run.train() and _final(run) for run in (same, other)]
    assert_same(results[0], torch.load(finished / "model_final.pth", weights_only=True))
    key = "sem_seg_head.alignment.predictor.weight"
    assert not torch.equal(results[0]["model"][key], results[1]["model"][key])


def _final(run: Trainer) -> dict[str, Any]:
    return torch.load(Path(run.settings.output_dir, "model_final.pth"), weights_only=True)


def test_yacs_rate_is_in_force(tmp_path: Path) -> None:
    tiny_config(tmp_path)  # registers the data set
    keys = [
        *('DATASETS.TRAIN=("tiny",)', 'DATASETS.TEST=("tiny",)', "SOLVER.IMS_PER_BATCH=2"),
        "SOLVER.WARMUP_ITERS=0",
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES=3", "DATALOADER.NUM_WORKERS=0", "MODEL.DEVICE=cpu"),
        *("INPUT.MIN_SIZE_TRAIN=(32,)", "INPUT.CROP.SIZE=[32,32]", f"OUTPUT_DIR={tmp_path}"),
    ]
    run = Trainer(load_config("shapes/ifa_r18.yaml", keys))
    run.iter = 4
    run.checkpointer.save("last")
    rates = []
    for rate in (0.01, 0.04):
        run = Trainer(load_config("shapes/ifa_r18.yaml", [*keys, f"SOLVER.BASE_LR={rate}"]))
        run.resume_or_load(resume=True)
        assert run.start_iter == 5
        rates.append([group["initial_lr"] for group in run.optimizer.param_groups])
    assert rates[1] == pytest.approx([4 * rate for rate in rates[0]])


def test_mixed_precision_may_be_switched_on(finished: Path, tmp_path: Path) -> None:
    run = _continued(finished, tmp_path, "train.amp.enabled=True")
    run.train()
    assert _final(run)["trainer"]["iteration"] == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.sem_seg_head.alignment.hidden_dims=[16]", r"of shape \(8, .*, not \(16,"),
        ("model.sem_seg_head.num_classes=4", "predictor.weight"),
        ("model.sem_seg_head.aux_heads=[]", "which the model lacks"),
        ("model.sem_seg_head.alignment.unfold=True", "of shape"),
        ("optimizer._target_=torch.optim.Adagrad", "no Adagrad, the settings .*momentum"),
        ("optimizer.params.weight_decay_bias=0.5", "groups of parameters"),
    ],
)
def test_what_a_resume_may_not_change(
    finished: Path, tmp_path: Path, override: str, said: str
) -> None:
    overrides = [override]
    cfg_keys = ("momentum",) if "_target_" in override else ()
    output = tmp_path / "out"
    output.mkdir()
    for name in ("model_0000002.pth", "config.yaml", "metrics.json"):
        shutil.copy(finished / name, output)
    (output / "last_checkpoint").write_text("model_0000002.pth")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    cfg = tiny_config(output, *overrides)
    for key in cfg_keys:
        del cfg.optimizer[key]
    run = Trainer(cfg)
    with pytest.raises(ValueError, match=said) as caught:
        run.resume_or_load(resume=True)
    text = str(caught.value)
    assert f"{output}/model_0000002.pth cannot be resumed from" in text
    assert f"fine-tune from it in another folder: train.init_checkpoint={output}" in text
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_weights_alone_are_not_resumed(finished: Path, tmp_path: Path) -> None:
    model = torch.load(finished / "model_0000002.pth", weights_only=True)["model"]
    torch.save({"model": model}, tmp_path / "weights.pth")
    (tmp_path / "last_checkpoint").write_text("weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth cannot be resumed .* no state of a train"):
        Trainer(tiny_config(tmp_path)).resume_or_load(resume=True)


def test_damaged_best_checkpoint_is_replaced(finished: Path, tmp_path: Path) -> None:
    run = _continued(finished, tmp_path)
    (tmp_path / "model_best.pth").write_bytes(b"")
    run.train()
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["best_metric"] > 0


@pytest.mark.parametrize("line", ["[1]", '{"iteration": null}', "3", '{"a": 1}', "\udcff"])
def test_lines_that_are_none_do_not_stop_a_resume(
    finished: Path, tmp_path: Path, line: str
) -> None:
    run = _continued(finished, tmp_path)
    text = (finished / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_bytes(f"{line}\n{text}".encode(errors="surrogateescape"))
    run.train()
    assert [row["iteration"] for row in _rows(tmp_path)] == list(range(7))


def test_one_training_in_a_folder(tmp_path: Path) -> None:
    run = Trainer(tiny_config(tmp_path, "train.max_iter=1"))
    with locked_output(tmp_path):
        message = rf"{tmp_path} is in use by a training \(process {os.getpid()} on "
        with pytest.raises(ValueError, match=message):
            run.train()
        with pytest.raises(ValueError, match=message):
            setup_run(tiny_config(tmp_path))
        setup_run(tiny_config(tmp_path), eval_only=True)
    assert not (tmp_path / "config.yaml").exists() and not (tmp_path / "model_final.pth").exists()
    run.train()
    assert (tmp_path / "model_final.pth").is_file()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from ifa_d2.engine.output_dir import locked_output

with locked_output(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    _run(code, tmp_path)
    with locked_output(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()


def test_left_overs_of_killed_runs_are_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone = tmp_path / f".model_final.pth.{process.pid}.tmp"
    alive = tmp_path / f".model_final.pth.{os.getpid()}.tmp"
    foreign = tmp_path / ".notes.tmp"
    for path in (gone, alive, foreign):
        path.touch()
    with locked_output(tmp_path):
        pass
    assert not gone.exists() and alive.exists() and foreign.exists()


def test_config_with_a_lambda_is_refused_before_training(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    cfg._set_flag("allow_objects", True)
    cfg.dataloader["note"] = lambda x: x
    with pytest.raises(ValueError, match=r"dataloader\.note is <function .*<lambda>"):
        Trainer(cfg).train()
    assert not (tmp_path / "config.yaml").exists()
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name]


def test_saved_config_names_the_file_that_registers_its_data(tmp_path: Path) -> None:
    text = config_text(tiny_config(tmp_path), ["tiny", "shapes_val"])
    assert text.startswith(f"# data set tiny is registered by {RECIPE}\n")
    assert "shapes_val is" not in text
    other = tmp_path / "config.yaml"
    other.write_text(text.replace("data set tiny is", "data set leaves is").replace(
        "names: tiny", "names: leaves"
    ))  # fmt: skip
    cfg = load_config(str(other))
    with pytest.raises(ValueError, match=rf"'leaves' is registered by {RECIPE}, which was not"):
        check_datasets(cfg, is_train=True)


def test_changed_settings() -> None:
    old = "a: 1\nb: {c: [1, 2], d: x}\ne: [{f: 1}]\n"
    new = "# a comment\na: 1\nb: {c: [1, 3], d: x}\ne: [{f: 2}]\ng: 5\n"
    assert changed_settings(old, old) == []
    assert changed_settings(old, new) == [
        "b.c: [1, 2] -> [1, 3]",
        "e.0.f: 1 -> 2",
        "g: (not set) -> 5",
    ]


def test_full_disk_is_said(tmp_path: Path) -> None:
    """As torch reports it: by its own counts of bytes."""
    checkpointer = Checkpointer(torch.nn.Linear(2, 2), str(tmp_path))
    with pytest.raises(OSError, match=r"No space left on device|free on its disk") as caught:
        with pytest.MonkeyPatch.context() as patch:
            link = tmp_path / f".last.pth.{os.getpid()}.tmp"
            link.symlink_to("/dev/full")
            patch.setattr(checkpointer, "logger", logging.getLogger("quiet"))
            checkpointer.save("last")
    assert "last.pth" in str(caught.value)
    assert not (tmp_path / "last.pth").exists()


def test_a_resumed_run_needs_no_pretrained_weights(tmp_path: Path) -> None:
    """Its checkpoint holds them; where they came from may be out of reach by now."""
    weights, output = tmp_path / "resnet10t.pth", tmp_path / "out"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), weights)
    cfg = tiny_config(output, "train.max_iter=1")
    cfg.model.backbone = L(TimmBackbone)(
        model_name="resnet10t",
        out_features=["res2", "res3"],
        out_indices=[1, 2],
        weights_file=str(weights),
    )
    cfg.model.sem_seg_head.levels.norm = "BN"
    for name, channels in (("res2", 64), ("res3", 128)):
        cfg.model.sem_seg_head.levels.input_shape[name].channels = channels
    Trainer(cfg).train()
    weights.unlink()
    with pytest.raises(ValueError, match="weights_file must be a file"):
        Trainer(cfg)
    cfg.train.max_iter = 2
    run = Trainer(cfg, resume=True)
    run.resume_or_load(resume=True)
    assert run.start_iter == 1
    run.train()
    assert f"weights_file: {weights}" in (output / "config.yaml").read_text()


def test_events_after_a_clock_was_set_back_come_last(finished: Path, tmp_path: Path) -> None:
    run = _continued(finished, tmp_path)
    shutil.copy(finished / "metrics.json", tmp_path)
    (events,) = finished.glob("events.out.tfevents.*")
    parts = events.name.split(".")
    parts[3] = str(int(parts[3]) + 10**6)  # days ahead
    shutil.copy(events, tmp_path / ".".join(parts))
    run.train()
    names = sorted(path.name for path in tmp_path.glob("events.out.tfevents.*"))
    assert len(names) == 2
    assert (tmp_path / names[0]).read_bytes() == events.read_bytes()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("total_loss")] == list(range(6))


def _interrupted(output: Path, cfg: DictConfig, method: str, at: int) -> None:
    """Train with an interrupt in the ``at``-th call of a method."""
    setup_run(cfg)
    trainer, calls = Trainer(cfg), 0
    trainer.resume_or_load(resume=False)
    call = getattr(trainer, method)

    def interrupt(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)
        return call(*args, **options)

    setattr(trainer, method, interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("method", "at", "last"),
    [
        ("run_step", 2, 1),  # saved out of turn, when the step is whole
        ("run_step", 3, 2),  # a checkpoint was due
        ("test", 1, 1),  # in an evaluation, where no checkpoint was due
        ("run_step", 6, 5),  # the last: what is left is its evaluation
    ],
)
def test_an_interrupted_run_continues_as_if_it_was_not(
    finished: Path, tmp_path: Path, method: str, at: int, last: int
) -> None:
    keys = ("train.eval_period=2",) if method == "test" else ()
    whole = tmp_path / "whole"
    expected = train_tiny(whole, *keys) if keys else _load(finished / "model_final.pth")
    part = tmp_path / "part"
    _interrupted(part, tiny_config(part, *keys), method, at)
    saved = Checkpointer(nn.Identity(), str(part)).get_checkpoint_file()
    assert _load(saved)["iteration"] == last
    assert_same(expected, train_tiny(part, *keys, resume=True))
    assert [row["iteration"] for row in _rows(part)] == list(range(7))


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    interrupts = Interrupts()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.held_back():
            signal.raise_signal(signal.SIGINT)
            assert interrupts.pending
            signal.raise_signal(signal.SIGINT)
            pytest.fail("not ended")
    finally:
        signal.signal(signal.SIGINT, before)
