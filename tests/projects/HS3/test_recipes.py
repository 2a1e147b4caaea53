"""Each recipe: what it says, what it costs, and its run from a miniature of the data to figures."""

import math
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ifa_d2 import get_config
from ifa_d2.analysis.cost import AUXILIARY, build_on_meta, count_model, count_params
from ifa_d2.engine.build import _check_features, without_pretrained
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.modeling import compute_fields
from tests.data import miniatures
from tests.recipes import check_saved_again, logged, train_net

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "projects" / "HS3" / "configs" / "camvid"
RECIPES = ("no_aux_lite0", "deep_supervision_lite0", "hs3_lite0", "hs3_fuse_lite0")
STAGES = ("res2", "res3", "res4")
SMALL = (
    "train.output_dir=out",
    "train.device=cpu",
    "train.max_iter=3",
    "train.batch_size=2",
    "train.log_period=1",
    "train.eval_period=0",
    "lr_multiplier.warmup_iters=0",
    "dataloader.train.mapper.augmentations.crop_size=[60,60]",
    "dataloader.train.mapper.num_points=200",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.evaluator.output_dir=null",  # no figures to draw
)


def recipe(name: str) -> DictConfig:
    return load_config(str(CONFIGS / f"{name}.py"))


def built(name: str) -> nn.Module:
    """The recipe's model of random weights, in eval mode."""
    return instantiate(without_pretrained(recipe(name)).model).eval()


@cache
def costs(name: str) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds of a recipe's parts, of pictures of 96 x 128.

    The name is the package's where it has a folder.
    """
    cfg = get_config(name) if "/" in name else recipe(name)
    model = build_on_meta(cfg)
    with torch.no_grad():
        counts = count_model(model, (96, 128), round_up=False, textbook=False)
    parameters = count_params(model)
    return {part: (parameters[part], counts[part]) for part in counts}


def inference_costs(name: str) -> dict[str, tuple[int, int]]:
    """Those of all parts that run at inference."""
    return {part: both for part, both in costs(name).items() if part != AUXILIARY}


def test_there_are_recipes() -> None:
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_whole_and_can_be_saved(name: str, tmp_path: Path) -> None:
    cfg = recipe(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    assert cfg.train.output_dir == f"./output/camvid/{name}"
    _check_features(cfg, build_on_meta(cfg))
    check_saved_again(cfg, tmp_path)


def test_recipes_differ_in_what_they_compare_alone() -> None:
    package = OmegaConf.to_container(get_config("camvid/ifa_lite0.py"))
    package.pop("recipe", None)
    for name in RECIPES[:3]:
        one = OmegaConf.to_container(recipe(name))
        heads = one["model"]["sem_seg_head"].pop("aux_heads")
        assert [head["feature"] for head in heads] == [*(STAGES if name != RECIPES[0] else ())]
        one["train"].pop("output_dir")
        for key in ("aux_heads", "output_dir"):
            package["model"]["sem_seg_head"].pop(key, None), package["train"].pop(key, None)
        assert one == package
    deep, clustered = (recipe(name).model.sem_seg_head.aux_heads for name in RECIPES[1:3])
    weights = {head.feature: 0.4 * head.loss_weight for head in deep}
    assert weights == {"res2": 0.2, "res3": 0.2, "res4": 0.4}
    numbers = []
    for head in clustered:
        numbers.append(len(set(head.pop("class_groups"))))
    assert clustered == deep
    assert 2 <= numbers[0] <= numbers[1] <= numbers[2] <= 11


def test_auxiliary_heads_cost_nothing_at_inference_and_change_no_answer() -> None:
    plain = costs("no_aux_lite0")
    assert plain == inference_costs("no_aux_lite0") == inference_costs("camvid/ifa_lite0.py")
    model = built("no_aux_lite0")
    one = {"image": torch.randint(0, 256, (3, 61, 83), dtype=torch.uint8)}
    expected = compute_fields(model, [one])[0].logits((45, 70))
    for name in RECIPES[1:3]:
        assert inference_costs(name) == plain and AUXILIARY in costs(name)
        other = built(name)
        found = other.load_state_dict(model.state_dict(), strict=False)
        assert {key.split(".")[1] for key in found.missing_keys} == {"aux_heads"}
        assert not found.unexpected_keys
        answer = compute_fields(other, [one])[0].logits((45, 70))
        torch.testing.assert_close(answer, expected, rtol=0, atol=0)


def test_fuse_costs_hidden_layers_and_a_level_each() -> None:
    plain, fused = inference_costs("no_aux_lite0"), inference_costs("hs3_fuse_lite0")
    levels = {f"projection {stage}_head" for stage in STAGES}
    assert fused.keys() - plain.keys() == levels and plain.keys() <= fused.keys()
    widths = {"res2": (24, 24 * 32), "res3": (40, 12 * 16), "res4": (112, 6 * 8)}
    hidden = sum(9 * width * 64 * cells for width, cells in widths.values())
    assert fused["backbone"][1] - plain["backbone"][1] == hidden
    for stage, (_, cells) in widths.items():
        assert fused[f"projection {stage}_head"][1] == 64 * 64 * cells
    changed = {name for name in plain if fused[name] != plain[name]}
    assert changed == {"backbone", "alignment, first layer"}


def test_fused_heads_read_what_the_field_reads() -> None:
    cfg = recipe("hs3_fuse_lite0")
    groups = [head.class_groups for head in recipe("hs3_lite0").model.sem_seg_head.aux_heads]
    assert [head.class_groups for head in cfg.model.sem_seg_head.aux_heads] == groups
    model = built("hs3_fuse_lite0")
    head = model.sem_seg_head
    in_order = ("res2", "res2_head", "res3", "res3_head", "res4", "res4_head", "res5")
    assert head.levels.in_features == in_order
    assert head.levels.level_channels == (128, 64, 128, 64, 128, 64, 128)
    assert [aux.feature for aux in head.aux_heads] == [f"{stage}_head" for stage in STAGES]
    assert not any("conv" in name for name, _ in head.aux_heads.named_parameters())
    # A picture of any size, asked at any other.
    field = compute_fields(model, [{"image": torch.zeros(3, 37, 101, dtype=torch.uint8)}])[0]
    for size in ((37, 101), (1, 1), (80, 33)):
        assert field.labels(size).shape == size


def test_fused_layers_learn_at_the_rate_of_heads() -> None:
    cfg = without_pretrained(recipe("hs3_fuse_lite0"))
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    rates = {
        id(p): group["lr"] for group in instantiate(cfg.optimizer.params) for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        factor = 1 if name.startswith("backbone.bottom_up.") else 5
        assert rates[id(parameter)] == pytest.approx(factor * cfg.optimizer.lr), name
    assert any(name.startswith("backbone.hidden.") for name, _ in model.named_parameters())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the prepared data set, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("miniatures")
    miniatures.make_camvid_segnet(root, {"train": 2, "val": 1})
    miniatures.prepare("camvid", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_and_evaluates(root: Path, name: str) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    results = train_net(CONFIGS / f"{name}.py", *SMALL)
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    losses = logged(root / "out")
    assert len(losses) == 3 and all(map(math.isfinite, losses))
    # A guess costs ln(11), and at the heads up to 0.8 of it more; they begin near one.
    most = 1.8 if name != "no_aux_lite0" else 1.0
    assert 0.5 * math.log(11) < losses[0] < 1.1 * most * math.log(11)
