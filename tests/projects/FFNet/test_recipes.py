"""Each recipe: what it says, and its run from prepared miniatures of the data to figures."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from ifa_d2 import get_config
from ifa_d2.analysis.cost import build_on_meta
from ifa_d2.engine.build import _check_features
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from tests.data import miniatures
from tests.recipes import check_saved_again, train_net
from tests.tiny import assert_same

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "projects" / "FFNet" / "configs"
# With a smaller backbone of the same stem, and as many channels.
SMALLER = {"86": "18", "78S": "22S", "40S": "22S", "46N": "46N"}
RECIPES = {
    "cityscapes/ffnet86_abb.py": "86",
    "cityscapes/ffnet78s_dbbb.py": "78S",
    "cityscapes/ffnet46n_cbb.py": "46N",
    "cityscapes/ifa_ffnet86.py": "86",
    "cityscapes/ifa_ffnet78s_d.py": "78S",
    "cityscapes/ifa_ffnet46n.py": "46N",
    "camvid/ffnet40s_dbbb.py": "40S",
    "camvid/ifa_ffnet40s_d.py": "40S",
}
TWINS = [
    ("cityscapes/ffnet86_abb.py", "cityscapes/ifa_ffnet86.py", "cityscapes/ifa_r50.py"),
    ("cityscapes/ffnet78s_dbbb.py", "cityscapes/ifa_ffnet78s_d.py", "cityscapes/ifa_r50.py"),
    ("cityscapes/ffnet46n_cbb.py", "cityscapes/ifa_ffnet46n.py", "cityscapes/ifa_r50.py"),
    ("camvid/ffnet40s_dbbb.py", "camvid/ifa_ffnet40s_d.py", "camvid/ifa_r18.py"),
]
SMALL = (
    "train.output_dir=out",
    "train.device=cpu",
    "train.max_iter=2",
    "train.batch_size=2",
    "train.seed=3",
    "train.log_period=1",
    "train.eval_period=0",
    "train.checkpointer.period=1",
    "train.checkpointer.max_to_keep=0",
    "dataloader.train.mapper.augmentations.crop_size=[60,60]",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.evaluator.output_dir=null",  # no figures to draw
    "model.backbone.norm=BN",
)


def test_there_are_recipes() -> None:
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*.py")}
    assert {name for name in found if not name.startswith("common/")} == RECIPES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_whole_and_can_be_saved(name: str, tmp_path: Path) -> None:
    cfg = load_config(str(CONFIGS / name))
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    instantiate(cfg.dataloader.train.mapper), instantiate(cfg.dataloader.test.mapper)
    assert cfg.train.output_dir == f"./output/{name.removesuffix('.py')}"
    assert cfg.train.init_checkpoint == ""
    assert cfg.model.backbone.variant == RECIPES[name]
    assert cfg.model.sem_seg_head.levels.norm == cfg.model.backbone.norm
    _check_features(cfg, build_on_meta(cfg))
    check_saved_again(cfg, tmp_path)


@pytest.mark.parametrize(("plain", "ifa", "base"), TWINS)
def test_twins_differ_in_their_head_alone(plain: str, ifa: str, base: str) -> None:
    one, other, packaged = (
        OmegaConf.to_container(cfg)
        for cfg in (
            load_config(str(CONFIGS / plain)),
            load_config(str(CONFIGS / ifa)),
            get_config(base),
        )
    )
    heads = [cfg["model"].pop("sem_seg_head") for cfg in (one, other, packaged)]
    shapes = [head["levels"].pop("input_shape") for head in heads]
    assert one["train"].pop("output_dir") != other["train"].pop("output_dir")
    assert one == other
    assert shapes[0] == shapes[1]
    heads[2]["aux_heads"] = []
    assert heads[1] == heads[2]  # the package's own, but for the features
    assert [head["num_classes"] for head in heads[:2]] == [heads[2]["num_classes"]] * 2
    assert heads[0]["targets"] == heads[1]["targets"]
    # All but the model is the package's recipe, Cityscapes without its weights.
    packaged.pop("recipe", None)  # its name
    for cfg in (one, packaged):
        cfg.pop("model"), cfg["train"].pop("output_dir", None), cfg["train"].pop("init_checkpoint")
    assert one == packaged


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the prepared data sets, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("miniatures")
    miniatures.make_cityscapes(root, {"train": 2, "val": 1})
    miniatures.make_camvid_segnet(root, {"train": 2, "val": 1})
    for name in ("cityscapes", "camvid"):
        miniatures.prepare(name, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_resumes_and_evaluates(root: Path, name: str) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    overrides = (*SMALL, f"model.backbone.variant={SMALLER[RECIPES[name]]}")
    results = train_net(CONFIGS / name, *overrides)
    classes = load_config(str(CONFIGS / name)).model.sem_seg_head.num_classes
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    assert sum(key.startswith("IoU-") for key in results["sem_seg"]) == classes
    lines = [json.loads(line) for line in (root / "out" / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert 0.3 * math.log(classes) < losses[0] < 4 * math.log(classes)  # a guess costs ln(K)
    whole = torch.load(root / "out" / "model_final.pth", weights_only=True)
    # As if stopped after the first iteration.
    (root / "out" / "model_final.pth").unlink()
    (root / "out" / "last_checkpoint").write_text("model_0000000.pth")
    again = train_net(CONFIGS / name, "--resume", *overrides)
    assert again["sem_seg"]["mIoU"] == results["sem_seg"]["mIoU"]
    assert_same(whole, torch.load(root / "out" / "model_final.pth", weights_only=True))
    evaluated = train_net(CONFIGS / name, "--eval-only", "--resume", *overrides)
    assert evaluated["sem_seg"]["mIoU"] == results["sem_seg"]["mIoU"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.backbone.variant=86"], r"input_shape\.res4\.channels must be 256"),
        (["model.backbone.stride2_first=False"], r"input_shape\.res2\.stride must be 4"),
        (["model.backbone.variant=40"], "variant must be one of 18, 34"),
        (["model.sem_seg_head.levels.dense_alignment.interpolation=cubic"], "got 'cubic'"),
        (["model.sem_seg_head.levels.dense_alignment.hidden=3"], "hidden"),
        (["train.init_checkpoint=no.pth"], r"no\.pth do not exist"),
    ],
)
def test_mistakes_are_one_sentence(root: Path, overrides: list[str], message: str) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_net(CONFIGS / "camvid/ffnet40s_dbbb.py", *SMALL, *overrides)
    assert not list((root / "out").glob("*.pth"))
