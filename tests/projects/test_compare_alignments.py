"""The comparison of alignments: what its names mean, its trainings, counts and tables."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig

from ifa_d2.engine import build
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.evaluation import SemSegEvaluator
from ifa_d2.evaluation.picture_counts import PictureCounts
from ifa_d2.modeling import TimmBackbone, fit_channels
from tests.forked_python import forked_python
from tests.tiny import RECIPE, write_tiny_data

FOLDER = Path(__file__).parents[2] / "projects" / "IFA"
PROBE, IFA = "probe", "ifa+integrated"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The scripts import one another by their names."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def lite0(variant: str) -> DictConfig:
    cfg = load_config("camvid/ifa_lite0.py", ["train.device=cpu"])
    importlib.import_module("alignment_variants").apply_variant(cfg, variant)
    return cfg


def lite0_model(variant: str):
    return build.build_model(lite0(variant), pretrained=False)


def test_the_probe_is_a_linear_classifier_of_the_features():
    head = lite0_model("probe").sem_seg_head
    assert len(head.alignment.mlp.layers) == 0
    assert head.alignment.predictor.weight.shape == (11, 24 + 40 + 112 + 320, 1, 1)
    assert not list(head.levels.projections.parameters())


def test_levels_are_added_finest_first():
    model = lite0_model("ifa+integrated+stride2+detail").eval()
    head = model.sem_seg_head
    assert head.levels.in_features == ("detail", "res1", "res2", "res3", "res4", "res5")
    assert list(head.levels.strides.values()) == [1, 2, 4, 8, 16, 32]
    assert head.levels.level_channels == (16, *[128] * 5)
    assert all(encoding.integrated for encoding in head.alignment.encodings)
    labels = model([{"image": torch.rand(3, 40, 56), "height": 40, "width": 56}])[0]["sem_seg"]
    assert labels.shape == (40, 56)


def test_fine_levels_are_left_out():
    head = lite0_model("ifa+stride16").eval().sem_seg_head
    assert head.levels.in_features == ("res4", "res5")
    assert head.levels.level_channels == head.alignment.in_channels == (128, 128)


def test_the_new_convolutions_learn_as_fast_as_the_head():
    cfg = lite0("bilinear+detail")
    optimizer = build_optimizer(cfg)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    model = build_optimizer.model
    assert {rates[id(p)] for p in model.backbone.convs.parameters()} == {1e-3}
    assert {rates[id(p)] for p in model.backbone.bottom_up.parameters()} == {2e-4}


def build_optimizer(cfg: DictConfig) -> torch.optim.Optimizer:
    from ifa_d2.engine import solver

    build_optimizer.model = build.build_model(cfg, pretrained=False)
    return solver.build_optimizer(cfg, build_optimizer.model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linear", "must begin with one of .*'linear'"),
        ("ifa+sharp", "changes must be of .*'sharp' in 'ifa.sharp'"),
    ],
)
def test_unknown_names_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        lite0(name)


def test_settings_are_parsed():
    parse = importlib.import_module("alignment_counts").parse_setting
    assert (parse("0.25/16"), parse("1/4")) == ((0.25, 16), (1.0, 4))
    for wrong in ("1", "half/1", "0/1", "1/0", "5/1", "1/1.5"):
        with pytest.raises(ValueError, match=f"must be SCALE/STRIDE.*'{wrong}'"):
            parse(wrong)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants trained together with two seeds, by the command."""
    root = tmp_path_factory.mktemp("compared")
    write_tiny_data(root)
    command = [forked_python(), FOLDER / "compare_alignments.py", "--config-file", RECIPE]
    command += ["--variants", PROBE, IFA, "--together", "2", "--seeds", "1", "2"]
    command += ["--settings", "1/4", "1/1", "0.5/1", "--f1-class", "middle"]
    command += ["--output", root / "runs", "--", "train.max_iter=3"]
    environment = {"TINY_DATA": str(root), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = run(command, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def run(command: list, environment: dict[str, str]) -> subprocess.CompletedProcess:
    import os

    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_counts_are_the_evaluators(compared: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TINY_DATA", str(compared))
    counts = importlib.import_module("alignment_counts")
    driver = importlib.import_module("compare_alignments")
    output = compared / "runs" / IFA / "seed1"
    assert counts.counted_settings(output) == ["1/4", "1/1", "0.5/1"]
    found = {
        setting: PictureCounts.read(counts.counts_file(output, setting))
        for setting in ("1/4", "1/1", "0.5/1")
    }
    cfg = driver.build_config(str(RECIPE), IFA, 1, output, ["train.max_iter=3"])
    cfg.model._target_ = "ifa_d2.modeling.FieldSegmentor"
    model = load_model(cfg, str(output / "model_final.pth"))
    evaluator = SemSegEvaluator("tiny", distributed=False, f1_classes=["middle"])
    with torch.no_grad():
        for batch in build.build_test_loader(cfg, "tiny"):
            evaluator.process(batch, model(batch))
    figures = evaluator.evaluate()["sem_seg"]
    every_pixel = found["1/1"]
    assert len(every_pixel.pictures) == 7
    of_all = every_pixel.metrics(every_pixel.total)
    for name in ("mIoU", "mBoundaryIoU_2pct", "trimap_mIoU_3px", "F1_2px-middle"):
        assert of_all[name] == pytest.approx(figures[name], nan_ok=True)
    # The label is the picture's own, however small the input was.
    for one in found.values():
        assert one.pictures == every_pixel.pictures
        labelled, expected = (
            each.counts.toarray()[:, :16].reshape(7, 4, 4).sum(2) for each in (one, every_pixel)
        )
        assert np.array_equal(labelled, expected)


def test_trained_together_they_see_what_one_alone_sees(compared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TINY_DATA", str(compared))
    together = importlib.import_module("train_together")
    driver = importlib.import_module("compare_alignments")
    cfg = driver.build_config(str(RECIPE), IFA, 1, tmp_path, ["train.max_iter=3"])
    together.train_together([cfg])
    alone = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    path = compared / "runs" / IFA / "seed1" / "model_final.pth"
    both = torch.load(path, weights_only=True)["model"]
    assert all(torch.allclose(value, both[name], atol=1e-4) for name, value in alone.items())
    other = torch.load(compared / "runs" / IFA / "seed2" / "model_final.pth", weights_only=True)[
        "model"
    ]
    assert any(not torch.allclose(value, other[name], atol=1e-4) for name, value in alone.items())


def test_a_run_is_cut_to_the_time_and_says_so(compared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TINY_DATA", str(compared))
    together = importlib.import_module("train_together")
    driver = importlib.import_module("compare_alignments")
    cfg = driver.build_config(str(RECIPE), PROBE, 1, tmp_path, ["train.max_iter=100000"])
    together.train_together([cfg], seconds=1e-3, measured=2)
    assert json.loads((tmp_path / "training.json").read_text())["iterations"] == 4


def frozen_config(variant: str, output: Path) -> DictConfig:
    """The tiny recipe over a frozen timm model."""
    driver = importlib.import_module("compare_alignments")
    cfg = driver.build_config(str(RECIPE), variant, 1, output, ["train.max_iter=3"])
    backbone = L(TimmBackbone)(
        model_name="test_resnet", out_features=["res2", "res3"], out_indices=[1, 2], frozen=True
    )
    shapes = instantiate(backbone).output_shape()
    cfg.model.backbone = backbone
    cfg.model.sem_seg_head.levels.norm = "BN"
    cfg.model.sem_seg_head.aux_heads = []
    cfg.model.sem_seg_head.levels.input_shape = {
        name: L(ShapeSpec)(channels=shape.channels, stride=shape.stride)
        for name, shape in shapes.items()
    }
    fit_channels(cfg.model.sem_seg_head)
    return cfg


def test_a_frozen_backbone_looks_at_a_batch_once(compared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TINY_DATA", str(compared))
    together = importlib.import_module("train_together")
    looked = []
    features = TimmBackbone._features
    monkeypatch.setattr(
        TimmBackbone, "_features", lambda self, x: looked.append(1) or features(self, x)
    )
    variants = (PROBE, IFA)
    together.train_together([frozen_config(v, tmp_path / "both" / v) for v in variants])
    assert len(looked) == 3
    for variant in variants:
        together.train_together([frozen_config(variant, tmp_path / "alone" / variant)])
        both, alone = (
            torch.load(tmp_path / kind / variant / "model_final.pth", weights_only=True)["model"]
            for kind in ("both", "alone")
        )
        assert both.keys() == alone.keys()
        assert all(torch.allclose(both[name], alone[name], atol=1e-4) for name in both)
    assert len(looked) == 9


def test_what_differs_is_not_trained_together(compared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TINY_DATA", str(compared))
    together = importlib.import_module("train_together")
    driver = importlib.import_module("compare_alignments")
    cfgs = [driver.build_config(str(RECIPE), PROBE, seed, tmp_path, []) for seed in (1, 2)]
    with pytest.raises(ValueError, match="must have the same data, batch, seed and length"):
        together.train_together(cfgs)


def test_tables_and_intervals(compared: Path):
    summary = [forked_python(), FOLDER / "summarize_alignments.py", compared / "runs"]
    done = run([*summary, "--seeds", "1", "2", "--pairs", f"{IFA}:{PROBE}"], {})
    assert done.returncode == 0, done.stderr[-3000:]
    text = (compared / "runs" / "alignments.md").read_text()
    assert text == done.stdout
    written = json.loads((compared / "runs" / "alignments.json").read_text())
    names = {"mIoU", "mBoundaryIoU_0.5pct", "mBoundaryIoU_2pct", "F1_2px-middle"}
    assert {row["figure"] for row in written["figures"]} == names
    rows = [row for row in written["figures"] if row["setting"] == "1/1"]
    by_variant = {(row["variant"], row["figure"]): row["values"] for row in rows}
    pair = next(
        row
        for row in written["differences"]
        if row["difference"] == f"{IFA} - {PROBE}"
        and (row["decoded"], row["figure"]) == ("1/1", "mIoU")
    )
    expected = np.subtract(by_variant[IFA, "mIoU"], by_variant[PROBE, "mIoU"]).mean()
    assert pair["mean"] == pytest.approx(expected)
    assert pair["low"] <= pair["mean"] <= pair["high"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "7"], "has no variant with counts of all seeds [7]"),
        (["--seeds", "1", "--pairs", "ifa:probe"], "--pairs must name variants of"),
    ],
)
def test_wrong_arguments_are_one_line(compared: Path, arguments: list[str], message: str):
    done = run(
        [forked_python(), FOLDER / "summarize_alignments.py", compared / "runs", *arguments], {}
    )
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
