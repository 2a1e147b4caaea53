"""The command in processes of its own, one and several."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from ifa_d2.arguments import training_parser
from ifa_d2.cli.train_net import main, read_config
from ifa_d2.engine import Trainer
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.evaluation import per_class_table
from tests.forked_python import forked_python
from tests.tiny import RECIPE, assert_same, tiny_config, train_tiny, write_tiny_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = write_tiny_data(tmp_path_factory.mktemp("tiny"), unlabelled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(root))
        yield root
    torch.use_deterministic_algorithms(False)


def run(
    data: Path, *arguments: object, check: bool = True, launcher: Sequence[object] = ()
) -> subprocess.CompletedProcess:
    python = sys.executable if launcher else forked_python()
    command = [python, *launcher, ROOT / "tools" / "train_net.py", "--config-file", RECIPE]
    done = subprocess.run(
        [str(part) for part in (*command, *arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=data,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"status {done.returncode}: {done.stderr[-3000:]}"
    return done


def metrics(output: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize(
    ("norm", "launcher", "arguments"),
    [
        ("naiveSyncBN", (), ("--num-processes", 2)),
        (
            "FrozenBN",
            ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2),
            ("train.accumulation_steps=2",),
        ),
    ],
)
def test_two_processes_train_as_one(
    data: Path, tmp_path: Path, norm: str, launcher: Sequence[object], arguments: Sequence[object]
) -> None:
    overrides = (
        f"model.backbone.stem.norm={norm}",
        # OHEM, and the mean over labelled pixels, are of each process's own batch: processes
        # agree with one only where every pixel is labelled and kept in all of them.
        "dataloader.train.mapper.augmentations.scale_range=[1,1.5]",
        # Its dropout draws other channels in each process.
        "model.sem_seg_head.aux_heads=[]",
        "train.max_iter=4",
        "train.eval_period=0",
    )
    one = train_tiny(tmp_path / "one", *overrides)
    output = f"train.output_dir={tmp_path / 'two'}"
    run(data, *arguments, output, *overrides, launcher=launcher)
    two = torch.load(tmp_path / "two" / "model_final.pth", weights_only=True)
    assert two["trainer"]["iteration"] == 3
    assert len(two["trainer"]["random_states"]) == 2
    left, right = (metrics(tmp_path / name, "total_loss") for name in ("one", "two"))
    assert len(left) == 4
    assert left == pytest.approx(right, rel=1e-5)
    weights = [key for key in one["model"] if not key.endswith(("running_var", "tracked"))]
    for key in weights:  # naiveSyncBN's running variance is without Bessel's correction
        torch.testing.assert_close(two["model"][key], one["model"][key], rtol=1e-4, atol=1e-5)
    if norm == "FrozenBN":
        # The same weights, and so the same figures, of seven pictures shared unevenly.
        figures = [metrics(tmp_path / name, "sem_seg/mIoU") for name in ("one", "two")]
        assert figures[0] == pytest.approx(figures[1], abs=0.5)


def test_two_processes_evaluate_as_one(data: Path, tmp_path: Path) -> None:
    train_tiny(tmp_path, "train.max_iter=30", "train.eval_period=0", "train.log_period=30")
    bins = "dataloader.evaluator.calibration_bins=15"
    cfg = tiny_config(tmp_path, f"train.init_checkpoint={tmp_path}/model_final.pth", bins)
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(cfg.train.init_checkpoint)
    expected = Trainer.test(cfg, model)["sem_seg"]
    # Without naming weights, the last checkpoint of the output directory is evaluated.
    output = f"train.output_dir={tmp_path}"
    written = "dataloader.evaluator.output_dir=${train.output_dir}"
    done = run(data, "--num-processes", 2, "--eval-only", "--verbose", output, bins, written)
    keys = ("mIoU", "mACC", "pACC", "ECE")
    figures = ", ".join(f"sem_seg/{key} {expected[key]:.2f}" for key in keys)
    files = "sem_seg_evaluation.json, confusion_matrix.png, reliability.png, log.txt"
    assert f"Done: {figures}. In {tmp_path / 'inference'}: {files}. To see" in done.stdout
    content = json.loads((tmp_path / "inference" / "sem_seg_evaluation.json").read_text())
    assert content["figures"]["ECE"] == expected["ECE"]  # to the last digit
    assert per_class_table(expected, ("left", "right", "middle")) in done.stdout
    # The flags say the same as the config's keys.
    cfg.inference = {"tta": True, "window": [33, 40], "stride": [2 / 3, 16]}
    cfg.dataloader.evaluator.calibration_bins = 0
    expected = Trainer.test(cfg, model)["sem_seg"]
    flags = ("--tta", "--sliding-window", 33, 40, "--stride", "2/3", 16)
    done = run(data, "--eval-only", "--verbose", *flags, output)
    figures = ", ".join(f"sem_seg/{key} {expected[key]:.2f}" for key in ("mIoU", "mACC", "pACC"))
    assert f"Done: {figures}. In {tmp_path / 'inference_2'}: log.txt. To see" in done.stdout
    assert "Inference settings: Views(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)" in done.stdout


def test_train_and_resume(data: Path, tmp_path: Path) -> None:
    overrides = (
        f"train.output_dir={tmp_path}",
        "train.max_iter=4",
        "train.checkpointer.period=2",
    )
    run(data, *overrides)
    figures = metrics(tmp_path, "sem_seg/mIoU")
    whole = torch.load(tmp_path / "model_final.pth", weights_only=True)
    # As if stopped after the checkpoint of iteration 1.
    (tmp_path / "model_final.pth").unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    done = run(data, "--resume", *overrides)
    assert "iterations 2 to 4 of 4 pictures" in done.stdout
    assert metrics(tmp_path, "sem_seg/mIoU")[-1] == figures[-1]
    assert_same(whole, torch.load(tmp_path / "model_final.pth", weights_only=True))


def test_errors_are_one_sentence(data: Path, tmp_path: Path) -> None:
    done = run(data, "--eval-only", f"train.output_dir={tmp_path}", check=False)
    assert done.returncode != 0
    assert "nothing to evaluate: name the weights" in done.stderr
    assert "Traceback" not in done.stderr


def test_batch_that_does_not_divide_is_found_before_processes_start(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = run(data, "--num-processes", 3, f"train.output_dir={output}", check=False)
    assert done.returncode == 1 and not output.exists()
    assert done.stderr.splitlines()[-1].endswith("a multiple of the number of processes, 3, got 4")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_wrong_number_of_classes_is_found_at_the_start(
    data: Path, tmp_path: Path, flags: list[str]
) -> None:
    opts = ["model.sem_seg_head.num_classes=5", f"train.output_dir={tmp_path / 'out'}"]
    args = training_parser("").parse_args(["--config-file", str(RECIPE), *flags, *opts])
    words = r"model\.sem_seg_head\.num_classes must be 3, as many as tiny has classes, got 5"
    with pytest.raises(ValueError, match=words):
        main(args)
    assert not (tmp_path / "out").exists()


def test_evaluation_is_of_the_run_not_of_its_initial_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = train_tiny(tmp_path / "out", "train.max_iter=1", "train.eval_period=0")["model"]
    torch.save({k: w for k, w in state.items() if "backbone" in k}, tmp_path / "backbone.pth")
    torch.save({k: w * 2 for k, w in state.items()}, tmp_path / "twice.pth")
    seen = []

    def _test(cfg: DictConfig, model: nn.Module, evaluators: list, *, weights: str) -> dict:
        seen.append(model)
        return {}

    monkeypatch.setattr(Trainer, "test", _test)

    def evaluate(*arguments: object) -> torch.Tensor:
        arguments = ["--config-file", recipe, "--eval-only", *arguments]
        main(training_parser("").parse_args([str(part) for part in arguments]))
        return seen[-1].state_dict()[key]

    key = "sem_seg_head.alignment.predictor.weight"
    cfg = tiny_config(tmp_path / "out")
    cfg.train.init_checkpoint = str(tmp_path / "backbone.pth")
    recipe = tmp_path / "recipe.yaml"
    LazyConfig.save(cfg, str(recipe))
    assert torch.equal(evaluate(), state[key])
    # What the command itself names is evaluated, as in the README, but for --resume.
    named = f"train.init_checkpoint={tmp_path / 'twice.pth'}"
    assert torch.equal(evaluate(named), state[key] * 2)
    assert torch.equal(evaluate("--resume", named), state[key])
    with pytest.raises(ValueError, match=r"backbone\.pth is no trained checkpoint of this model"):
        evaluate(f"train.output_dir={tmp_path / 'nothing'}")


def test_a_training_replaces_no_other(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model_final.pth").write_bytes(b"weights")
    arguments = ["--config-file", str(RECIPE), f"train.output_dir={tmp_path}"]
    with pytest.raises(ValueError, match=f"{tmp_path} holds a run already"):
        read_config(training_parser("").parse_args(arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["model_final.pth"]
    for more in ("--resume", "--eval-only"):
        read_config(training_parser("").parse_args([more, *arguments]))


def test_each_evaluation_has_a_folder_of_its_own(data: Path, tmp_path: Path) -> None:
    """The training's files, its environment too, stay as they are."""
    key = "dataloader.evaluator.output_dir=${train.output_dir}"
    train_tiny(tmp_path, "train.max_iter=2", "train.eval_period=0", key)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    figures = []
    for flags in ([], ["--tta", "--sliding-window", "33", "40"]):
        arguments = ["--config-file", str(RECIPE), "--eval-only", *flags]
        arguments += [f"train.output_dir={tmp_path}", key]
        figures.append(main(training_parser("").parse_args(arguments))["sem_seg"]["mIoU"])
    del before["log.txt"]  # of the training in this process, until the evaluation has its own
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    for name, figure, window in zip(
        ("inference", "inference_2"), figures, (None, [33, 40]), strict=True
    ):
        written = json.loads((tmp_path / name / "sem_seg_evaluation.json").read_text())
        assert written["figures"]["mIoU"] == figure
        assert written["weights"] == str(tmp_path / "model_final.pth")
        assert (written["tta"] is None) == (window is None)
        assert (written["sliding_window"] or {}).get("window") == window
        assert (tmp_path / name / "log.txt").is_file()
    with pytest.raises(FileNotFoundError):
        arguments = ["--config-file", str(RECIPE), "--eval-only", f"train.output_dir={tmp_path}"]
        main(training_parser("").parse_args([*arguments, "train.init_checkpoint=absent.pth"]))
    assert not (tmp_path / "inference_3").exists()


def test_an_error_in_one_of_several_processes_is_one_sentence(data: Path, tmp_path: Path) -> None:
    """A label that only one of them meets, in a worker of its loader."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    label = np.full((40, 48), 9, np.uint8)  # no class
    Image.fromarray(label).save(root / "labels" / "3.png")
    keys = (f"train.output_dir={tmp_path / 'out'}", "dataloader.train.num_workers=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(root))
        done = run(root, "--num-processes", 2, *keys, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line]
    message = f"train_net.py: error: label '{root}/labels/3.png' holds 9: allowed"
    assert lines[-1].startswith(message)
    assert "Traceback" not in done.stderr and "Traceback" not in done.stdout


def test_interrupting_the_launcher_ends_its_processes(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "train_net.py", "--config-file", RECIPE]
    command += ["--num-processes", 2, f"train.output_dir={tmp_path}", "train.max_iter=100000"]
    process = subprocess.Popen(
        [str(part) for part in (*command, "train.eval_period=0")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Whoever runs the tests in the background has interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if " iter: 3 " in line:
            break
    children = [int(pid) for pid in _children(process.pid)]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "train_net.py: interrupted" in rest and "Traceback" not in rest
    assert len(children) >= 2
    for _ in range(600):
        if not any(map(_runs, children)):
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes of the interrupted training are still there after a minute")


def test_an_interrupt_ends_in_how_to_resume(data: Path, tmp_path: Path) -> None:
    """With workers, of which a terminal's interrupt reaches each."""
    command = [sys.executable, ROOT / "tools" / "train_net.py", "--config-file", RECIPE]
    command += [f"train.output_dir={tmp_path / 'out'}", "train.eval_period=0"]
    command += ["dataloader.train.num_workers=2", "train.max_iter=100000"]
    command = [str(part) for part in command]
    options = {
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    process = subprocess.Popen(
        command,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
        **options,
    )
    for line in process.stdout:
        if " iter: 3 " in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    last = rest.splitlines()[-1]
    saved = (tmp_path / "out" / "last_checkpoint").read_text()
    assert last.startswith(f"train_net.py: interrupted: {tmp_path / 'out' / saved} is saved, ")
    # The command is one that goes on.
    _, _, resume = last.partition("continue with: ")
    again = [sys.executable, *shlex.split(resume)[1:]]
    start = int(saved[len("model_") : -len(".pth")]) + 1
    done = subprocess.run([*again, f"train.max_iter={start + 1}"], timeout=120, **options)
    assert done.returncode == 0, done.stdout
    assert f"iterations {start} to {start + 1} of" in done.stdout


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_user_sees_the_plan_the_losses_and_the_figures(data: Path, tmp_path: Path) -> None:
    keys = (f"train.output_dir={tmp_path}", "train.max_iter=2", "train.eval_period=0")
    done = run(data, *keys)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    first_loss = next(index for index, line in enumerate(lines) if "total_loss" in line)
    assert first_loss <= 4
    plan = next(line for line in lines if "Training on tiny (7 pictures)" in line)
    assert "iterations 0 to 2 of 4 pictures on cpu, evaluated at the end on tiny" in plan
    assert not [line for line in lines if "copypaste" in line or "Serializ" in line]
    end = lines[-2]
    assert re.search(r"Done: sem_seg/mIoU \d+\.\d\d, sem_seg/mACC .*, sem_seg/pACC ", end)
    files = "model_final.pth, model_best.pth, metrics.json, log.txt"
    assert f"In {tmp_path}: {files}. To see what the model does:" in end
    log = (tmp_path / "log.txt").read_text()
    assert "Serializing" in log and "copypaste" not in log
    # What to type next is a command that runs.
    command = shlex.split(lines[-1])
    assert command[:2] == ["python", "tools/demo.py"]
    subprocess.run(
        [forked_python(), *command[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert (tmp_path / "pictures" / "sheet.png").is_file()
    everything = run(data, "--verbose", *keys[1:], f"train.output_dir={tmp_path / 'loud'}")
    assert "Serializing" in everything.stdout
