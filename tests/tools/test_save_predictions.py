"""Predictions that tools/train_net.py writes while it evaluates."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import trainId2label
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from omegaconf import ListConfig
from PIL import Image

from ifa_d2.arguments import training_parser
from ifa_d2.cli.train_net import main
from ifa_d2.data import read_label
from ifa_d2.engine import Trainer
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.run import load_config
from ifa_d2.evaluation import PredictionWriter
from tests.data.miniatures import make_cityscapes_test
from tests.forked_python import forked_python
from tests.tiny import COUNT, RECIPE, tiny_config

COMMAND = Path(__file__).parents[2] / "tools" / "train_net.py"


def test_command_writes_what_the_model_predicts(trained: Path, tmp_path: Path) -> None:
    """In two processes, which share the pictures."""
    formats = [part for name in ("ids", "probabilities") for part in ("--save-format", name)]
    command = [forked_python(), COMMAND, "--config-file", RECIPE, "--num-processes", 2]
    command += ["--eval-only", "--verbose", "--save-predictions", tmp_path, *formats]
    done = subprocess.run(
        [str(part) for part in (*command, f"train.output_dir={trained / 'out'}")],
        env={**os.environ, "PYTHONPATH": str(COMMAND.parents[1]), "OMP_NUM_THREADS": "1"},
        cwd=trained,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Wrote {2 * COUNT} predictions to {tmp_path}/ids, {tmp_path}/prob" in done.stdout
    assert "Done: sem_seg/mIoU" in done.stdout

    cfg = tiny_config(trained / "out")
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(trained / "out" / "model_final.pth"))
    model.eval()
    names = []
    for (one,) in Trainer.build_test_loader(cfg, "tiny"):
        with torch.no_grad():
            logits = model([one])[0]["sem_seg"]
        names.append(Path(one["file_name"]).stem)
        labels = read_label(str(tmp_path / "ids" / f"{names[-1]}.png"))
        np.testing.assert_array_equal(labels, logits.argmax(dim=0).numpy())
        shares = np.load(tmp_path / "probabilities" / f"{names[-1]}.npy")
        np.testing.assert_allclose(shares, logits.softmax(dim=0).numpy(), atol=1e-3)
    assert len(names) == len(list((tmp_path / "ids").iterdir())) == COUNT


def test_the_cityscapes_server_gets_its_files(tmp_path: Path) -> None:
    """Of the images alone, by the model that a checkpoint holds; no figures, and no failure."""
    stems = make_cityscapes_test(tmp_path, size=(48, 96))
    cfg = load_config("cityscapes/ifa_r18.py", ["train.device=cpu"])
    model = Trainer.build_model(cfg).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    command = [forked_python(), COMMAND, "--config-file", "cityscapes/ifa_r18.py", "--eval-only"]
    command += ["--save-predictions", tmp_path / "out", "--save-format", "cityscapes"]
    command += ["dataloader.test.dataset.names=cityscapes_fine_sem_seg_test", "train.device=cpu"]
    command += ["dataloader.test.num_workers=0", f"train.init_checkpoint={tmp_path}/weights.pth"]
    done = subprocess.run(
        [str(part) for part in command],
        env={
            **os.environ,
            "PYTHONPATH": str(COMMAND.parents[1]),
            "OMP_NUM_THREADS": "1",
            "DETECTRON2_DATASETS": str(tmp_path),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name = "cityscapes_fine_sem_seg_test"
    assert f"{name}: none of its records has a label, so there are no metrics" in done.stdout
    assert "Done:" not in done.stdout and "mIoU" not in done.stdout
    files = sorted((tmp_path / "out" / "cityscapes").iterdir())
    assert [path.name for path in files] == [f"{stem}_pred.png" for stem in stems]
    for path in files:
        city = path.name.split("_")[0]
        source = tmp_path / "cityscapes/leftImg8bit/test" / city / path.name.replace("_pred", "")
        image = torch.from_numpy(np.array(Image.open(source))).permute(2, 0, 1)
        with torch.no_grad():
            logits = model([{"image": image, "height": 48, "width": 96}])[0]["sem_seg"]
        expected = np.array([trainId2label[i].id for i in range(19)])[logits.argmax(dim=0).numpy()]
        np.testing.assert_array_equal(read_label(str(path)), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save-predictions", "x"], "save_predictions needs --eval-only"),
        (["--eval-only", "--save-format", "ids"], "save_format needs --save-predictions DIR"),
        (
            ["--eval-only", "--save-predictions", "x", "--save-format", "cityscapes"],
            r"'cityscapes' needs its classes, but tiny has \['left', 'right', 'middle'\]",
        ),
    ],
)
def test_mistakes_are_named(trained: Path, arguments: list[str], message: str) -> None:
    arguments = ["--config-file", str(RECIPE), *arguments, f"train.output_dir={trained / 'out'}"]
    with pytest.raises(ValueError, match=message):
        main(training_parser("").parse_args(arguments))


@pytest.mark.parametrize("name", ["before", "truth"])
def test_predictions_mix_with_nothing(trained: Path, tmp_path: Path, name: str) -> None:
    """Neither with those of a run before nor with the labels that they are compared with."""
    folder = tmp_path / name / "ids"
    shutil.copytree(trained / "labels", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    arguments = ["--config-file", str(RECIPE), "--eval-only", "--save-predictions"]
    arguments += [str(tmp_path / name), f"train.output_dir={trained / 'out'}"]
    with pytest.raises(ValueError, match=f"{folder} holds files already, such as .*png"):
        main(training_parser("").parse_args(arguments))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    folder.rename(tmp_path / name / "ids before")
    (tmp_path / name / "ids").mkdir()
    main(training_parser("").parse_args(arguments))
    assert len(list((tmp_path / name / "ids").iterdir())) == COUNT


def test_a_recipe_may_list_evaluators(trained: Path, tmp_path: Path) -> None:
    """The figures are the first one's; the saved config is read again."""
    cfg = tiny_config(trained / "out")
    figures = cfg.dataloader.evaluator
    figures.dataset_name = "tiny"
    figures.output_dir = str(tmp_path / "figures")
    writer = L(PredictionWriter)(dataset_name="tiny", output_dir=str(tmp_path / "written"))
    cfg.dataloader.evaluator = ListConfig([figures, writer], flags={"allow_objects": True})
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    cfg = load_config(str(tmp_path / "config.yaml"))
    results = Trainer.test(cfg, Trainer.build_model(cfg).eval())
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    assert len(list((tmp_path / "written/ids").iterdir())) == COUNT
    assert (tmp_path / "figures/confusion_matrix.csv").is_file()
