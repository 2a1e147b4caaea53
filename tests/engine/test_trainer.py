import gc
import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.evaluation import DatasetEvaluators
from PIL import Image

from ifa_d2.data import register_sem_seg_folder
from ifa_d2.engine import Trainer
from ifa_d2.engine.build import check_evaluation_files
from ifa_d2.engine.output_dir import check_no_run, new_evaluation_dir
from ifa_d2.engine.run import load_config, setup_run
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.evaluation import SemSegEvaluator
from tests.tiny import assert_same, tiny_config, train_tiny


def _interrupted(finished: Path, output: Path) -> Path:
    """What is left of a run that was stopped after its first checkpoint."""
    shutil.copy(finished / "model_0000002.pth", output)
    (output / "last_checkpoint").write_text("model_0000002.pth")
    lines = (finished / "metrics.json").read_text().splitlines(keepends=True)
    # The lines of iterations 0 .. 3, and one that was cut off.
    kept = [line for line in lines if json.loads(line)["iteration"] < 4]
    (output / "metrics.json").write_text("".join(kept) + '{"iteration": ')
    return output


def _final(output: Path) -> dict:
    return torch.load(output / "model_final.pth", weights_only=True)


def test_two_runs_of_one_seed_are_the_same(finished: Path, tmp_path: Path) -> None:
    assert_same(_final(finished), train_tiny(tmp_path))


def test_another_seed_is_another_run(finished: Path, tmp_path: Path) -> None:
    other = train_tiny(tmp_path, "train.seed=6")["model"]
    key = "sem_seg_head.alignment.predictor.weight"
    assert not torch.equal(other[key], _final(finished)["model"][key])


def test_workers_change_nothing(finished: Path, tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    gc.disable()  # which ends workers too, but slowly
    try:
        assert_same(_final(finished), train_tiny(tmp_path, "dataloader.train.num_workers=2"))
        assert set(multiprocessing.active_children()) <= before
    finally:
        gc.enable()


def test_evaluation_in_between_changes_nothing(finished: Path, tmp_path: Path) -> None:
    final = train_tiny(tmp_path, "train.eval_period=2")
    assert_same(_final(finished), final)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_equals_the_uninterrupted_one(
    finished: Path, tmp_path: Path, workers: int
) -> None:
    _interrupted(finished, tmp_path)
    torch.manual_seed(99)
    override = f"dataloader.train.num_workers={workers}"
    final = train_tiny(tmp_path, override, resume=True)
    assert_same(_final(finished), final)
    assert final["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 6
    iterations = [
        json.loads(line)["iteration"]
        for line in (tmp_path / "metrics.json").read_text().splitlines()
    ]
    assert iterations == sorted(set(iterations)) == [0, 1, 2, 3, 4, 5, 6]


def test_resume_without_a_seed_keeps_the_order_of_the_data(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    part.mkdir()
    final = train_tiny(whole, "train.seed=-1")
    shutil.copy(whole / "model_0000002.pth", part)
    (part / "last_checkpoint").write_text("model_0000002.pth")
    assert_same(final, train_tiny(part, "train.seed=-1", resume=True))


def test_fine_tuning_starts_at_iteration_0(finished: Path, tmp_path: Path) -> None:
    weights = finished / "model_final.pth"
    cfg = tiny_config(tmp_path, f"train.init_checkpoint={weights}", "train.max_iter=1")
    setup_run(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0
    assert not trainer.optimizer.state
    assert trainer.scheduler.last_epoch == 0
    assert_same(dict(trainer.model.state_dict()), dict(_final(finished)["model"]))
    # A resume where there is no checkpoint begins in the same way.
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0
    trainer.train()
    assert _final(tmp_path)["trainer"]["iteration"] == 0


def test_resume_prefers_the_checkpoint_to_initial_weights(finished: Path, tmp_path: Path) -> None:
    _interrupted(finished, tmp_path)
    trainer = Trainer(tiny_config(tmp_path, "train.init_checkpoint=nowhere.pth"))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 3


def test_missing_initial_weights_are_an_error(tmp_path: Path) -> None:
    trainer = Trainer(tiny_config(tmp_path, f"train.init_checkpoint={tmp_path}/nowhere.pth"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth do not exist"):
        trainer.resume_or_load(resume=False)


def test_best_checkpoint_is_kept_beside_the_last(finished: Path) -> None:
    assert (finished / "last_checkpoint").read_text() == "model_final.pth"
    best = torch.load(finished / "model_best.pth", weights_only=True)
    figures = [
        json.loads(line).get("sem_seg/mIoU")
        for line in (finished / "metrics.json").read_text().splitlines()
    ]
    measured = [figure for figure in figures if figure is not None]
    assert len(measured) == 2
    assert best["best_metric"] == max(measured)


def test_resumed_run_remembers_the_best_figure(finished: Path, tmp_path: Path) -> None:
    _interrupted(finished, tmp_path)
    best = torch.load(finished / "model_best.pth", weights_only=True)
    best["best_metric"] = 99.5  # better than anything this run will reach
    torch.save(best, tmp_path / "model_best.pth")
    before = (tmp_path / "model_best.pth").read_bytes()
    train_tiny(tmp_path, resume=True)
    assert (tmp_path / "model_best.pth").read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["model_0000003.pth", "model_final.pth", "model_best.pth", "metrics.json", "last_checkpoint"],
)
def test_a_new_run_replaces_no_other(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"of a run")
    trainer = Trainer(tiny_config(tmp_path))
    words = rf"output directory {tmp_path} holds a run already \({name}\), .* --resume .*, or name "
    with pytest.raises(ValueError, match=rf"{words}.* train\.output_dir \(OUTPUT_DIR"):
        trainer.resume_or_load(resume=False)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"of a run")]


def test_what_a_run_that_did_not_begin_left_is_no_run(tmp_path: Path) -> None:
    for name in ("log.txt", "environment.txt", "config.yaml", "model.pth"):
        (tmp_path / name).write_text("text")
    (tmp_path / "metrics.json").touch()  # opened, and never written
    (tmp_path / "inference").mkdir()
    check_no_run(tmp_path)
    check_no_run(tmp_path / "not there")


def test_evaluations_are_numbered(tmp_path: Path) -> None:
    made = [new_evaluation_dir(tmp_path / "out").name for _ in range(3)]
    assert made == ["inference", "inference_2", "inference_3"]


@pytest.mark.parametrize(
    ("max_iter", "period", "expected"),
    [(800, 0, 80), (30, 0, 3), (5, 0, 1), (40_000, 0, 1000), (800, 500, 500)],
)
def test_default_checkpoint_period_is_a_part_of_the_run(
    tmp_path: Path, max_iter: int, period: int, expected: int
) -> None:
    keys = (f"train.max_iter={max_iter}", f"train.checkpointer.period={period}")
    assert TrainSettings.from_config(tiny_config(tmp_path, *keys)).checkpoint_period == expected


def test_an_evaluation_says_of_what_it_is(finished: Path, tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, f"train.init_checkpoint={finished}/model_final.pth")
    cfg.dataloader.evaluator.output_dir = str(tmp_path)
    model = Trainer.build_model(cfg)
    read = json.loads
    Trainer.test(cfg, model, weights="some.pth")
    once = read((tmp_path / "sem_seg_evaluation.json").read_text())
    assert (once["dataset"], once["weights"]) == ("tiny", "some.pth")
    assert (once["tta"], once["sliding_window"]) == (None, None)
    cfg.inference = {"tta": True, "scales": [1.0, 1.5], "window": [33, 40], "stride": [0.5, 16]}
    cfg.inference["blend"] = "gaussian"
    Trainer.test(cfg, model)
    views = read((tmp_path / "sem_seg_evaluation.json").read_text())
    expected = {"scales": [1.0, 1.5], "short_edges": None, "max_size": None, "flip": True}
    assert (views["weights"], views["tta"]) == (None, expected)
    assert views["sliding_window"] == {
        "window": [33, 40],
        "stride": [17, 16],
        "blend": "gaussian",
    }


def test_evaluations_of_a_training_say_how_far_it_is(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, "train.max_iter=1", "train.eval_period=0")
    cfg.dataloader.evaluator.output_dir = str(tmp_path)
    Trainer(cfg).train()
    written = json.loads((tmp_path / "sem_seg_evaluation.json").read_text())
    assert written["weights"] == f"{tmp_path} after 1 iterations"


def test_what_a_run_leaves_behind(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.yaml",
        "environment.txt",
        "last_checkpoint",
        "log.txt",
        "metrics.json",
        "model_0000002.pth",
        "model_0000005.pth",
        "model_best.pth",
        "model_final.pth",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if name.endswith(".tmp")]
    log = (finished / "log.txt").read_text()
    assert "| middle" in log and "eta:" in log and "loss_sem_seg_aux:" in log
    first = json.loads((finished / "metrics.json").read_text().splitlines()[0])
    assert {"iteration", "loss_sem_seg", "loss_sem_seg_aux", "lr", "total_loss"} <= first.keys()


def test_run_that_was_stopped_before_its_final_checkpoint(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "model_0000005.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000005.pth")
    train_tiny(tmp_path, resume=True)
    last = torch.load(finished / "model_0000005.pth", weights_only=True)
    assert_same(_final(tmp_path), last)
    assert_same(last["model"], _final(finished)["model"])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_run_that_cannot_start_leaves_the_config_of_another(tmp_path: Path) -> None:
    train_tiny(tmp_path, "train.max_iter=1", "train.eval_period=0")
    before = (tmp_path / "config.yaml").read_text()
    assert load_config(str(tmp_path / "config.yaml")).train.max_iter == 1
    with pytest.raises(ValueError, match="holds a run already"):
        train_tiny(tmp_path, "train.max_iter=2")
    assert (tmp_path / "config.yaml").read_text() == before
    setup_run(tiny_config(tmp_path, "train.max_iter=3"), eval_only=True)
    assert (tmp_path / "config.yaml").read_text() == before


def test_config_is_written_as_it_was_given(tmp_path: Path) -> None:
    """Scaled to its batch, it would be scaled once more when it is read."""
    cfg = tiny_config(tmp_path, "train.max_iter=1", "train.eval_period=0")
    cfg.train.reference_batch_size = 2 * cfg.train.batch_size
    trainer = Trainer(cfg)
    trainer.train()
    assert trainer.iter == trainer.max_iter == 2
    assert load_config(str(tmp_path / "config.yaml")).train.max_iter == 1


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    train_tiny(tmp_path, "train.checkpointer.period=1", "train.checkpointer.max_to_keep=2")
    kept = sorted(path.name for path in tmp_path.glob("model_0*.pth"))
    assert kept == ["model_0000004.pth", "model_0000005.pth"]


def test_resumed_run_counts_the_checkpoints_before_it(tmp_path: Path) -> None:
    """Those of the run that it continues; not others."""
    overrides = ("train.checkpointer.period=1", "train.eval_period=0")
    train_tiny(tmp_path, *overrides, "train.max_iter=3")
    for name in ("model_best.pth", "model_0000009.pth", "model_12.pth"):
        shutil.copy(tmp_path / "model_final.pth", tmp_path / name)
    overrides = (*overrides, "train.checkpointer.max_to_keep=2")
    train_tiny(tmp_path, *overrides, "train.max_iter=5", resume=True)
    kept = {path.name for path in tmp_path.glob("model_*.pth")}
    others = {"model_best.pth", "model_0000009.pth", "model_12.pth", "model_final.pth"}
    assert kept == {"model_0000003.pth", "model_0000004.pth"} | others


def test_mixed_precision_on_the_cpu(tmp_path: Path) -> None:
    """Weights move as in float32, which they do by more than the tolerance."""
    overrides = ("train.max_iter=3", "train.eval_period=0")
    cfg = tiny_config(tmp_path / "start", *overrides)
    setup_run(cfg)
    start = Trainer(cfg).model.state_dict()
    full, mixed = (
        train_tiny(tmp_path / name, *overrides, f"train.amp.enabled={enabled}")["model"]
        for name, enabled in (("full", False), ("mixed", True))
    )
    key = "sem_seg_head.alignment.predictor.weight"
    assert mixed[key].dtype == torch.float32
    assert (full[key] - start[key]).abs().max() > 0.01
    assert not torch.equal(mixed[key], full[key])
    torch.testing.assert_close(mixed[key], full[key], rtol=0, atol=1e-3)


def test_recomputed_activations_change_nothing(finished: Path, tmp_path: Path) -> None:
    """Neither weights nor statistics, nor what the checkpoints hold."""
    again = train_tiny(tmp_path, "train.activation_checkpointing=True")["model"]
    expected = _final(finished)["model"]
    assert again.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6)


def test_one_value_a_channel_is_said(tmp_path: Path) -> None:
    crop = "dataloader.train.mapper.augmentations.crop_size=[8,8]"
    trainer = Trainer(tiny_config(tmp_path, "train.batch_size=1", crop))
    message = r"a batch norm has one value a channel .* with 1 picture.* raise train\.batch_size"
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_it_learns(tmp_path: Path) -> None:
    cfg = tiny_config(
        tmp_path,
        "train.max_iter=150",
        "train.checkpointer.period=150",
        "train.eval_period=0",
        "optimizer.lr=0.05",
        "optimizer.params.head_lr_factor=1",
        "lr_multiplier.warmup_iters=2",
        "dataloader.train.mapper.augmentations.scale_range=[1,1.2]",
    )
    setup_run(cfg)
    trainer = Trainer(cfg)
    results = trainer.train()
    assert results["sem_seg"]["mIoU"] > 75


YACS = (
    *('DATASETS.TRAIN=("tiny",)', 'DATASETS.TEST=("tiny",)', "MODEL.SEM_SEG_HEAD.NUM_CLASSES=3"),
    *("SOLVER.IMS_PER_BATCH=2", "DATALOADER.NUM_WORKERS=0", "SOLVER.DETERMINISTIC=True"),
    *("INPUT.MIN_SIZE_TRAIN=(32,)", "INPUT.CROP.SIZE=[32,32]", "MODEL.DEVICE=cpu"),
    *("SOLVER.MAX_ITER=3", "SOLVER.CHECKPOINT_PERIOD=2", "TEST.EVAL_PERIOD=2"),
    "SOLVER.WARMUP_ITERS=0",
)


def test_best_checkpoint_is_of_the_first_of_several_data_sets(tmp_path: Path) -> None:
    tiny_config(tmp_path)  # registers the data set
    register_sem_seg_folder(
        "tiny_dark", "$TINY_DATA/images", "$TINY_DATA/labels", ("left", "right", "middle")
    )
    several = 'DATASETS.TEST=("tiny_dark","tiny")'
    overrides = [*YACS, several, "SOLVER.MAX_ITER=1", f"OUTPUT_DIR={tmp_path}"]
    cfg = load_config("shapes/ifa_r18.yaml", overrides)
    setup_run(cfg)
    trainer = Trainer(cfg)
    assert trainer.best_metric() == "tiny_dark/sem_seg/mIoU"
    results = trainer.train()
    assert list(results) == ["tiny_dark", "tiny"]
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["best_metric"] == results["tiny_dark"]["sem_seg"]["mIoU"]


def test_yacs_config(tmp_path: Path) -> None:
    overrides = YACS
    tiny_config(tmp_path)  # registers the data set
    finals = []
    for name in ("whole", "part"):
        output = tmp_path / name
        if name == "part":
            output.mkdir()
            shutil.copy(tmp_path / "whole" / "model_0000001.pth", output)
            (output / "last_checkpoint").write_text("model_0000001.pth")
        cfg = load_config("shapes/ifa_r18.yaml", [*overrides, f"OUTPUT_DIR={output}"])
        setup_run(cfg)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=name == "part")
        assert trainer.start_iter == (2 if name == "part" else 0)
        assert 0 <= trainer.train()["sem_seg"]["mIoU"] <= 100
        finals.append(_final(output))
    assert_same(*finals)


def test_an_error_of_a_worker_is_one_sentence(
    tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its traceback is in the log's file, once."""
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    monkeypatch.setenv("TINY_DATA", str(root))
    monkeypatch.setattr("ifa_d2.engine.trainer.check_training_data", lambda cfg: [])
    for path in (root / "labels").iterdir():
        Image.new("L", (48, 40), 9).save(path)  # no class
    words = rf"^label '{root}/labels/\d\.png' holds 9: allowed are [^\n]*$"
    out = tmp_path / "out"
    cfg = tiny_config(out, "dataloader.train.num_workers=1")
    setup_run(cfg)
    with pytest.raises(ValueError, match=words):
        Trainer(cfg).train()
    assert (out / "log.txt").read_text().count("in translate_label") == 1
    cfg.dataloader.test.num_workers = 1
    with pytest.raises(ValueError, match=words):
        Trainer.test(cfg, Trainer.build_model(cfg))


def test_evaluations_do_not_replace_each_other(tmp_path: Path) -> None:
    tiny_config(tmp_path)  # registers the data set
    one, other, silent = (SemSegEvaluator("tiny", output_dir=name) for name in ("a", "b", None))
    check_evaluation_files([one, other, silent, silent], new=True)
    with pytest.raises(ValueError, match=r"^a/sem_seg_evaluation\.json would be replaced"):
        check_evaluation_files([one, DatasetEvaluators([silent, one])])
    there = SemSegEvaluator("tiny", output_dir=str(tmp_path))
    (tmp_path / "sem_seg_evaluation.json").write_text("{}")
    check_evaluation_files([there])  # as in a training, where each replaces the one before
    with pytest.raises(ValueError, match=r"replaced .* give dataloader\.evaluator another"):
        check_evaluation_files([there], new=True)
