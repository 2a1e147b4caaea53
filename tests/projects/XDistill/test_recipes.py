"""Each recipe: what it says, and its run from data to figures; the comparison of the two."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import compare_teacher
import drawn_films
import numpy as np
import pytest
import torch
from compare_teacher import interval
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from ifa_d2.data.shapes import SHAPES_COUNTS
from ifa_d2.engine.build import evaluator_metric, without_pretrained
from ifa_d2.engine.inference import build_inference_model
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from tests.projects.XDistill.test_kitti import write_kitti
from tests.recipes import check_saved_again, train_net

CONFIGS = Path(__file__).parents[3] / "projects" / "XDistill" / "configs"
BASE, OURS = "shapes/monodepth_lite0", "shapes/xdistill_lite0"
RECIPES = (BASE, OURS, "kitti/monodepth_lite0", "kitti/xdistill_lite0")
TEACHER = "shapes/teacher_r18"
SMALL = (
    "train.device=cpu",
    "train.batch_size=2",
    "train.log_period=1",
    "train.seed=3",
    "train.eval_period=0",
    "lr_multiplier.warmup_iters=0",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.depth_net.backbone.pretrained=False",
    "model.pose_net.backbone.pretrained=False",
)


def recipe(name: str, *overrides: str) -> DictConfig:
    return load_config(str(CONFIGS / f"{name}.py"), overrides)


def run(name: str, *arguments: str) -> dict:
    return train_net(CONFIGS / f"{name}.py", *arguments)


def rows(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line for line in lines if "total_loss" in line]


def test_there_are_recipes() -> None:
    found = {
        path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("*/*.py")
    }
    assert {name for name in found if not name.startswith("common/")} == {*RECIPES, TEACHER}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_whole_and_can_be_saved(name: str, tmp_path: Path) -> None:
    cfg = recipe(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    assert cfg.train.output_dir == f"./output/{name}"
    assert evaluator_metric(cfg) == "depth/delta_1"
    with torch.device("meta"):
        model = instantiate(without_pretrained(cfg).model)
    assert (model.teacher_head is not None) == ("xdistill" in name)
    assert cfg.model.depth_net.backbone.pretrained and cfg.model.pose_net.backbone.pretrained
    check_saved_again(cfg, tmp_path)


@pytest.mark.parametrize("data", ["shapes", "kitti"])
def test_recipes_differ_in_the_teacher_alone(data: str) -> None:
    base, ours = (OmegaConf.to_container(recipe(name)) for name in RECIPES if name.startswith(data))
    assert base["model"].pop("teacher_head") is None and ours["model"].pop("teacher_head")
    mapper = ours["dataloader"]["train"]["mapper"]
    assert mapper.pop("groups") and mapper.pop("teacher_classes")
    assert mapper.pop("teacher_root")
    assert base["dataloader"]["train"]["mapper"].pop("teacher_root") is None
    assert base["train"].pop("output_dir") != ours["train"].pop("output_dir")
    assert base == ours


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a film of each split, and KITTI in small, where runs' relative paths begin."""
    root = tmp_path_factory.mktemp("films")
    write_kitti(root)
    with pytest.MonkeyPatch.context() as patch:
        for split in SHAPES_COUNTS:
            patch.setitem(SHAPES_COUNTS, split, 2)
        patch.setattr(drawn_films.prepare_drawn_films, "__defaults__", (4,))
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        yield root
    for split in SHAPES_COUNTS:
        vars(MetadataCatalog.get(f"xdistill_shapes_{split}")).pop("image_root", None)


def check_figures(results: dict) -> None:
    figures = results["depth"]
    assert 0 < figures["abs_rel"] < 10 and 0 <= figures["delta_1"] <= 1
    assert all(map(math.isfinite, figures.values()))


def test_it_trains_resumes_and_is_evaluated(root: Path) -> None:
    half = ("train.max_iter=2", "train.checkpointer.period=1", "train.output_dir=ours")
    results = run(OURS, *SMALL, *half)
    check_figures(results)
    first = rows(root / "ours")
    names = {"loss_photometric", "loss_smoothness", "loss_teacher"}
    assert all(names <= row.keys() for row in first)
    assert all(row["total_loss"] == pytest.approx(sum(row[n] for n in names)) for row in first[:1])
    best = torch.load(root / "ours" / "model_best.pth", weights_only=True)["best_metric"]
    assert best == pytest.approx(results["depth"]["delta_1"])
    before = torch.load(root / "ours" / "model_final.pth", weights_only=True)["model"]
    assert {name.split(".")[0] for name in before} == {"depth_net", "pose_net", "teacher_head"}
    content = json.loads((root / "ours" / "depth_evaluation.json").read_text())
    assert len(content["frames"]) == 4 and content["figures"] == results["depth"]

    (root / "ours" / "last_checkpoint").write_text("model_0000000.pth")  # as if it was stopped
    again = run(OURS, "--resume", *SMALL, *half)
    after = torch.load(root / "ours" / "model_final.pth", weights_only=True)["model"]
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, msg=name)
    assert again["depth"] == pytest.approx(results["depth"])

    # At inference the depth network is all.
    alone = ("model.pose_net=null", "model.teacher_head=null")
    weights = ("train.init_checkpoint=ours/model_final.pth", "train.output_dir=ours")
    small = [one for one in SMALL if "pose_net" not in one]
    evaluated = run(OURS, "--eval-only", *small, *alone, *weights)
    assert evaluated["depth"] == pytest.approx(again["depth"], rel=1e-12)


def test_a_trained_teacher(root: Path) -> None:
    """Its labels, as they are written, are what the model learns from."""
    small = [one for one in SMALL if "net" not in one]
    small += ["train.max_iter=1", "train.output_dir=teacher"]
    assert "mIoU" in run(TEACHER, *small)["sem_seg"]
    frames = "dataloader.test.dataset.names=xdistill_shapes_train"
    weights = "train.init_checkpoint=teacher/model_final.pth"
    run(TEACHER, "--eval-only", "--save-predictions", "labels", *small, frames, weights)
    label = drawn_films.Image.open(root / "labels" / "ids" / "00" / "0001.png")
    assert label.size == (96, 64) and label.mode == "L"
    told = ("dataloader.train.mapper.teacher_root=labels/ids", "train.output_dir=taught")
    check_figures(run(OURS, *SMALL, *told, "train.max_iter=1"))
    assert rows(root / "taught")[0]["loss_teacher"] > 0


def test_without_a_teacher_losses_are_those_of_films(root: Path) -> None:
    check_figures(run(BASE, *SMALL, "train.max_iter=1", "train.output_dir=base"))
    (row,) = rows(root / "base")
    assert "loss_photometric" in row and "loss_teacher" not in row


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("teacher_root=none", r"teacher_root none is no folder"),
        (
            "groups.flat=[road]",
            r"groups must cover all teacher_classes, but pavement is in none of",
        ),
        ("groups.flat=[road,sea]", r"groups.flat must be of teacher_classes, .* got 'sea'"),
    ],
)
def test_mistakes_are_found_before_the_first_iteration(
    root: Path, override: str, words: str
) -> None:
    arguments = (f"dataloader.train.mapper.{override}", "train.output_dir=wrong")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run(OURS, *SMALL, *arguments)
    assert not (root / "wrong" / "metrics.json").exists()


def test_views_are_refused() -> None:
    cfg = recipe(BASE)
    assert build_inference_model(cfg, torch.nn.Identity()) is not None
    cfg.inference = {"tta": True}
    with pytest.raises(ValueError, match=r"tta or a window for a .* judged by depth/delta_1: view"):
        build_inference_model(cfg, torch.nn.Identity())


def test_kitti_trains_and_is_evaluated(root: Path) -> None:
    small = [*SMALL, "train.max_iter=1", "train.output_dir=kitti"]
    for part in ("train", "test"):
        small.append(f"dataloader.{part}.mapper.augmentations.0.shape=[32,64]")
    records = DatasetCatalog.get("kitti_depth_train")
    for one in records:
        path = root / "kitti_teacher" / f"{one['image_id']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        label = np.random.default_rng(0).integers(0, 19, (30, 40), np.uint8)
        drawn_films.Image.fromarray(label).save(path)
    check_figures(run("kitti/xdistill_lite0", *small))
    assert rows(root / "kitti")[0]["loss_teacher"] > 0


def test_interval_is_students() -> None:
    values = [0.01, 0.03, -0.02, 0.05]
    mean, low, high = interval(values)
    test = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((test.low, test.high)) and mean == pytest.approx(0.0175)


def test_comparison(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its table, of figures that runs have left."""
    figures = {"abs_rel": 0.2, "rmse": 3.0, "delta_1": 0.6}
    for seed in (1, 2):
        for kind, change in (("without", 0.0), ("exact", 0.01 * seed), ("trained", -0.01)):
            folder = root / "compared" / f"{kind}_{seed}"
            folder.mkdir(parents=True)
            root_of = ["dataloader.train.mapper.teacher_root=labels"] * (kind == "trained")
            (folder / "compared.json").write_text(json.dumps([f"train.seed={seed}", *root_of]))
            one = {name: value + change for name, value in figures.items()}
            (folder / "depth_evaluation.json").write_text(json.dumps({"figures": one}))
    (root / "labels").mkdir(exist_ok=True)
    command = ["compare_teacher.py", "--output", "compared", "--frames", "1"]
    command += ["--teacher-root", "labels"]
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "1", "2"])
    compare_teacher.main()
    said = capsys.readouterr().out
    assert "| no teacher | 0.2000 ± 0.0000 | 3.0000 ± 0.0000 | 0.6000 ± 0.0000 |" in said
    assert "| exact labels | 0.2150 ± 0.0071 |" in said
    assert "exact labels, abs_rel minus that without: +0.0150 [-0.0485, +0.0785] (+0.01" in said
    assert "trained teacher, rmse minus that without: -0.0100 [-0.0100, -0.0100]" in said
    content = json.loads((root / "compared" / "comparison.json").read_text())
    assert content["exact labels"][1]["abs_rel"] == 0.22
    # One depth everywhere is scaled to the true median: half of the pixels are nearer.
    assert content["one depth"][0]["abs_rel"] > content["median of training"][0]["abs_rel"] > 0
    for wrong, words in (
        (["--seeds", "1"], r"seeds must be two different numbers or more, got \[1\]"),
        (["--seeds", "1", "2", "--frames", "4"], r"frames must be from 0 to 3, got \[4\]"),
        (["--teacher-root", "none"], r"teacher_root must be a folder of label files, got 'none'"),
        (["--seeds", "1", "2", "--", "train.max_iter=9"], r"without_1 holds a run of other settin"),
    ):
        monkeypatch.setattr("sys.argv", [*command, *wrong])
        with pytest.raises(ValueError, match=words):
            compare_teacher.main()
