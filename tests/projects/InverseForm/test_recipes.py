"""Each recipe: what it says, what it costs, and its run from small data to figures."""

import json
import math
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from boundary_head import BoundaryHead
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ifa_d2 import get_config
from ifa_d2.analysis.cost import AUXILIARY, build_on_meta, count_model, count_params
from ifa_d2.data.shapes.prepare import SHAPES_COUNTS
from ifa_d2.engine.build import _check_features, without_pretrained
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.modeling import compute_fields
from tests.data import miniatures
from tests.recipes import check_saved_again, train_net
from tests.tiny import assert_same

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "projects" / "InverseForm" / "configs"
BASES = {
    "camvid/no_boundary_lite0": "camvid/ifa_lite0.py",
    "camvid/inverse_form_lite0": "camvid/ifa_lite0.py",
    "shapes/inverse_form_r18": "shapes/ifa_r18.py",
}
HEAD = "model.sem_seg_head.aux_heads.1"
# The rows of the page's comparison, and the losses of each.
ROWS = {
    "camvid/no_boundary_lite0": ((), set()),
    "head alone": ((f"{HEAD}.attention_weight=0", f"{HEAD}.inverse_form=null"), {"loss_boundary"}),
    "and attention": (
        (f"{HEAD}.inverse_form=null",),
        {"loss_boundary", "loss_boundary_attention"},
    ),
    "and inverse form": ((), {"loss_boundary", "loss_boundary_attention", "loss_inverse_form"}),
}
SMALL = (
    "train.output_dir=out",
    "train.device=cpu",
    "train.max_iter=3",
    "train.batch_size=2",
    "train.seed=1",
    "train.log_period=1",
    "train.eval_period=0",
    "lr_multiplier.warmup_iters=0",
    "dataloader.train.mapper.augmentations.short_edge=60",
    "dataloader.train.mapper.augmentations.crop_size=[60,60]",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.evaluator.output_dir=null",  # no figures to draw
    "model.sem_seg_head.targets.sampler.num_points=200",
)


def recipe(name: str, *overrides: str) -> DictConfig:
    return load_config(str(CONFIGS / f"{name}.py"), overrides)


@cache
def costs(name: str) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds of a recipe's parts, of pictures of 64 x 96.

    The name is the package's where it ends in .py.
    """
    model = build_on_meta(get_config(name) if name.endswith(".py") else recipe(name))
    with torch.no_grad():
        counts = count_model(model, (64, 96), round_up=False, textbook=False)
    parameters = count_params(model)
    return {part: (parameters[part], counts[part]) for part in counts}


def test_there_are_recipes() -> None:
    found = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.py")}
    assert {name for name in found if not name.startswith("common/")} == BASES.keys()


@pytest.mark.parametrize("name", BASES)
def test_recipe_is_whole_and_can_be_saved(name: str, tmp_path: Path) -> None:
    cfg = recipe(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    assert cfg.train.output_dir == f"./output/{name}"
    _check_features(cfg, build_on_meta(cfg))
    check_saved_again(cfg, tmp_path)


@pytest.mark.parametrize("name", BASES)
def test_recipes_are_the_packages_but_for_points_and_boundaries(name: str) -> None:
    one, base = (OmegaConf.to_container(each) for each in (recipe(name), get_config(BASES[name])))
    base.pop("recipe", None)
    heads = [each["model"]["sem_seg_head"] for each in (one, base)]
    sampler = heads[0].pop("targets")["sampler"]
    heads[1].pop("targets")
    mapper = base["dataloader"]["train"]["mapper"]
    assert sampler["num_points"] == mapper.pop("num_points")
    assert sampler["sampling"] == mapper.pop("point_sampling")
    if "no_boundary" not in name:
        assert heads[0]["aux_heads"].pop()["_target_"] is BoundaryHead
    for each in (one, base):
        each["train"].pop("output_dir", None)
    assert one == base


@pytest.mark.parametrize("name", list(BASES)[1:])
def test_a_boundary_head_costs_nothing_at_inference(name: str) -> None:
    own, base = costs(name), costs(BASES[name])
    for part in base.keys() | own.keys():
        if part != AUXILIARY:
            assert own[part] == base[part]
    shapes = recipe(name).model.sem_seg_head.levels.input_shape
    width = sum(shape.channels for shape in shapes.values())
    # Norm and biases, and multiply-adds on the finest grid; the network of the loss is no part.
    parameters, adds = (a - b for a, b in zip(own[AUXILIARY], base[AUXILIARY], strict=True))
    assert (parameters, adds) == (64 * width + 2 * 64 + 65, (64 * width + 64) * 16 * 24)


def test_a_boundary_head_changes_no_answer() -> None:
    plain, other = (
        instantiate(without_pretrained(recipe(name)).model).eval() for name in list(BASES)[:2]
    )
    found = other.load_state_dict(plain.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all(key.startswith("sem_seg_head.aux_heads.1.") for key in found.missing_keys)
    assert not any("inverse_form" in key for key in found.missing_keys)
    one = {"image": torch.randint(0, 256, (3, 61, 83), dtype=torch.uint8)}
    answers = [compute_fields(model, [one])[0].logits((45, 70)) for model in (plain, other)]
    torch.testing.assert_close(*answers, rtol=0, atol=0)


def test_the_frozen_network_is_not_optimized() -> None:
    cfg = without_pretrained(recipe("camvid/inverse_form_lite0"))
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    groups = instantiate(cfg.optimizer.params)
    optimized = {id(p) for group in groups for p in group["params"]}
    head = model.sem_seg_head.aux_heads[1]
    assert {id(p) for p in head.parameters()} <= optimized
    assert not {id(b) for b in head.inverse_form.buffers()} & optimized
    assert sum(b.numel() for b in head.inverse_form.buffers()) > 100_000


def train(folder: Path, config: Path, *overrides: str, resume: bool = False) -> dict:
    """The command's figures, and its losses by iteration as "losses"."""
    if not resume:
        shutil.rmtree(folder / "out", ignore_errors=True)
    flags = ["--resume"] if resume else []
    results = train_net(config, *flags, *SMALL, *overrides)
    rows = map(json.loads, (folder / "out" / "metrics.json").read_text().splitlines())
    return {**results, "losses": [row for row in rows if "total_loss" in row]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with prepared CamVid and few shapes, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("miniatures")
    miniatures.make_camvid_segnet(root, {"train": 2, "val": 1})
    miniatures.prepare("camvid", root)
    with pytest.MonkeyPatch.context() as patch:
        for part, count in {"train": 4, "val": 1}.items():
            patch.setitem(SHAPES_COUNTS, part, count)
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_comparison_trains_and_evaluates(root: Path, row: str) -> None:
    overrides, names = ROWS[row]
    name = row if row in BASES else "camvid/inverse_form_lite0"
    results = train(root, CONFIGS / f"{name}.py", *overrides)
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    assert len(results["losses"]) == 3
    for losses in results["losses"]:
        found = {key for key in losses if key.startswith("loss_")}
        assert found == names | {"loss_sem_seg", "loss_sem_seg_aux"}
        assert all(math.isfinite(losses[key]) for key in found)
    # Crops need not have a boundary, and no pixel need be predicted to be of one.
    for key in names - {"loss_boundary_attention"}:
        assert sum(losses[key] for losses in results["losses"]) > 0, results["losses"]


def test_shapes_train_and_resume_to_the_bit(root: Path) -> None:
    config = CONFIGS / "shapes" / "inverse_form_r18.py"
    period = ("train.checkpointer.period=2", "train.checkpointer.max_to_keep=0")
    whole = train(root, config, *period)
    assert len(whole["losses"]) == 3 and whole["losses"][0]["loss_inverse_form"] > 0
    last = torch.load(root / "out" / "model_final.pth", weights_only=True)["model"]
    assert not any("inverse_form" in key for key in last)
    # As if it had been stopped after the second iteration.
    (root / "out" / "last_checkpoint").write_text("model_0000001.pth")
    (root / "out" / "model_final.pth").unlink()
    train(root, config, *period, resume=True)
    again = torch.load(root / "out" / "model_final.pth", weights_only=True)["model"]
    assert_same(again, last)


def test_a_model_predicts_without_the_network_or_the_head(root: Path) -> None:
    """After the test before, whose run is there; a missing file is said with what to do."""
    weights = str(root / "out" / "model_final.pth")
    name = "shapes/inverse_form_r18"
    cfg = recipe(name, f"{HEAD}.inverse_form.net_file=none.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist.*inverse_form=null"):
        load_model(cfg, weights)
    with_head = load_model(recipe(name, f"{HEAD}.inverse_form=null"), weights)
    plain = load_model(get_config(BASES[name]), weights)
    one = {"image": torch.randint(0, 256, (3, 61, 83), dtype=torch.uint8)}
    answers = [compute_fields(model, [one])[0].logits() for model in (with_head, plain)]
    torch.testing.assert_close(*answers, rtol=0, atol=0)
    assert isinstance(with_head.sem_seg_head.aux_heads[1], nn.Module)


def test_a_network_of_another_tile_size_is_refused_at_once() -> None:
    cfg = recipe("camvid/inverse_form_lite0", f"{HEAD}.inverse_form.tile_size=128")
    with pytest.raises(ValueError, match=r"tile_size must be 64, .* got 128.*--tile-size 128"):
        instantiate(without_pretrained(cfg).model)
