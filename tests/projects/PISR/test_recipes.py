"""Each recipe: what it says, what it costs, and its run from data to figures."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import register_all_cityscapes_panoptic
from omegaconf import DictConfig, OmegaConf

import ifa_d2
from ifa_d2.analysis.cost import FIRST, analyze, build_on_meta
from ifa_d2.data.preparation import PREPARATIONS, prepare
from ifa_d2.data.shapes import SHAPES_COUNTS
from ifa_d2.engine.build import _check_features, build_model, build_test_mapper
from ifa_d2.engine.checkpoint import Checkpointer
from ifa_d2.engine.inference import build_inference_model
from ifa_d2.engine.predictor import load_model
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from tests.data.panoptic_miniatures import make_cityscapes_panoptic
from tests.recipes import check_saved_again, logged, train_net

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "projects" / "PISR" / "configs"
RECIPES = (
    *("shapes/panoptic_deeplab_r18", "shapes/pisr_r18"),
    *("cityscapes/panoptic_deeplab_r50", "cityscapes/pisr_r50"),
)
BASE, OURS = RECIPES[:2]
SMALL = (
    "train.device=cpu",
    "train.batch_size=2",
    "train.log_period=1",
    "train.eval_period=0",
    "train.seed=3",
    "lr_multiplier.warmup_iters=0",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
)


def recipe(name: str, *overrides: str) -> DictConfig:
    return load_config(str(CONFIGS / f"{name}.py"), overrides)


def run(name: str, *arguments: str) -> dict:
    return train_net(CONFIGS / f"{name}.py", *arguments)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_there_are_recipes() -> None:
    found = {
        path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("*/*.py")
    }
    assert {name for name in found if not name.startswith("common/")} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_whole_and_can_be_saved(name: str, tmp_path: Path) -> None:
    cfg = recipe(name)
    assert not OmegaConf.missing_keys(cfg)
    TrainSettings.from_config(cfg)
    assert cfg.train.output_dir == f"./output/{name}"
    model = build_on_meta(cfg)
    _check_features(cfg, model)
    assert (model.relations is not None) == ("pisr" in name)
    check_saved_again(cfg, tmp_path)


@pytest.mark.parametrize("data", ["shapes", "cityscapes"])
def test_recipes_differ_in_the_relations_alone(data: str) -> None:
    base, ours = (OmegaConf.to_container(recipe(name)) for name in RECIPES if name.startswith(data))
    assert base["model"].pop("relations") is None and ours["model"].pop("relations")
    assert base["train"].pop("output_dir") != ours["train"].pop("output_dir")
    assert base == ours


@pytest.mark.parametrize("data", ["shapes", "cityscapes"])
def test_relations_cost_little_and_a_second_prediction_more(data: str) -> None:
    size = (128, 192) if data == "shapes" else (256, 512)
    names = [name for name in RECIPES if name.startswith(data)]
    base, ours = ({part.name: part for part in analyze(recipe(name), size)} for name in names)
    assert ours.keys() - base.keys() == {"relations"}
    for name, part in base.items():
        assert ours[name].params == part.params
        times = ours[name].macs / part.macs
        assert times == 1 if name.startswith("backbone") else 1 < times <= 2, name
    assert ours[FIRST].macs == 2 * base[FIRST].macs
    # Of the instance head, two of its convolutions and a prediction each run twice.
    head = build_on_meta(recipe(names[0])).ins_embed_head
    again = [*head.center_head, head.center_predictor, *head.offset_head, head.offset_predictor]
    cells = size[0] * size[1] // 16
    more = cells * sum(conv.weight.numel() for conv in again)
    assert ours["ins_embed_head"].macs - base["ins_embed_head"].macs == more
    relations = build_on_meta(recipe(names[1])).relations
    assert ours["relations"].params == sum(p.numel() for p in relations.parameters())
    assert ours["relations"].macs < 0.05 * sum(part.macs for part in base.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a few pictures of both data sets, where the runs' relative paths begin."""
    root = tmp_path_factory.mktemp("panoptic")
    make_cityscapes_panoptic(root, {"train": 2, "val": 1})
    for preparation in PREPARATIONS["cityscapes"]:
        prepare(preparation, root, workers=1, allow_partial=True)
    with pytest.MonkeyPatch.context() as patch:
        for split, count in {"train": 4, "val": 2}.items():
            patch.setitem(SHAPES_COUNTS, split, count)
        patch.setenv("DETECTRON2_DATASETS", str(root))
        patch.chdir(root)
        with cityscapes_at(root):
            yield root
    shutil.rmtree(root)


@contextmanager
def cityscapes_at(root: Path) -> Iterator[None]:
    """Detectron2's panoptic sets of Cityscapes below another root than at its import."""
    names = [f"cityscapes_fine_panoptic_{split}" for split in ("train", "val")]
    saved = {name: (DatasetCatalog.pop(name), MetadataCatalog.pop(name)) for name in names}
    register_all_cityscapes_panoptic(str(root))
    try:
        yield
    finally:
        for name, (records, metadata) in saved.items():
            DatasetCatalog.pop(name), MetadataCatalog.pop(name)
            DatasetCatalog.register(name, records)
            MetadataCatalog[name] = metadata


def check_figures(results: dict, classes: int) -> None:
    quality = results["panoptic_seg"]
    assert set(quality) == {f"{a}{b}" for a in ("PQ", "SQ", "RQ") for b in ("", "_th", "_st")}
    assert all(0 <= value <= 100 for value in quality.values())
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    assert sum(name.startswith("IoU-") for name in results["sem_seg"]) == classes


def test_it_trains_from_its_base_resumes_and_is_evaluated(root: Path) -> None:
    base = run(BASE, *SMALL, "train.max_iter=3", "train.output_dir=base")
    check_figures(base, 13)
    first = logged(root / "base")
    assert len(first) == 3 and all(map(math.isfinite, first)) and first[-1] < first[0]
    # Before its first step it answers as its base.
    trained = load_model(recipe(BASE), "base/model_final.pth")
    started = build_model(recipe(OURS)).eval()
    Checkpointer(started, "").load_initial("base/model_final.pth")
    one = build_test_mapper(recipe(OURS))(DatasetCatalog.get("shapes_panoptic_val")[0])
    with torch.no_grad():
        (found,), (expected,) = started([one]), trained([one])
    assert torch.equal(found["sem_seg"], expected["sem_seg"])
    assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])
    told = ("train.init_checkpoint=base/model_final.pth", "train.output_dir=ours")
    half = (*told, "train.max_iter=2", "train.checkpointer.period=1")
    results = run(OURS, *SMALL, *half)
    check_figures(results, 13)
    before = weights(root / "ours" / "model_final.pth")
    (root / "ours" / "last_checkpoint").write_text("model_0000000.pth")  # as if it was stopped
    again = run(OURS, "--resume", *SMALL, *half)
    after = weights(root / "ours" / "model_final.pth")
    assert before.keys() == after.keys() > weights(root / "base" / "model_final.pth").keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, msg=name)
    assert again["panoptic_seg"] == pytest.approx(results["panoptic_seg"], nan_ok=True)
    moved = {name for name in before if name.startswith("relations.to_") and before[name].any()}
    assert len(moved) == 4

    evaluated = run(OURS, "--eval-only", *SMALL, "train.init_checkpoint=ours/model_final.pth")
    assert evaluated["panoptic_seg"] == pytest.approx(again["panoptic_seg"], nan_ok=True)
    with pytest.raises(ValueError, match=r"base/model_final.pth is no trained checkpoint of this"):
        run(OURS, "--eval-only", *SMALL, "train.init_checkpoint=base/model_final.pth")

    path = str(CONFIGS / f"{OURS}.py")
    predictor = ifa_d2.Predictor.from_config(path, "ours/model_final.pth", SMALL)
    picture = str(root / "shapes" / "images" / "val" / "0000.png")
    field = predictor(picture)
    assert field.labels((30, 40), (10, 20, 40, 60)).shape == (30, 40)
    assert predictor.class_names[10] == "car"


@pytest.mark.parametrize("name", RECIPES[2:])
def test_cityscapes_trains_and_is_evaluated(root: Path, name: str) -> None:
    small = (*SMALL, "model.backbone.norm=BN", "model.sem_seg_head.levels.norm=BN")
    small += ("train.init_checkpoint=", "train.max_iter=1", f"train.output_dir={name}")
    small += ("dataloader.train.mapper.augmentations.1.crop_size=[64,96]",)
    check_figures(run(name, *small), 19)
    assert all(map(math.isfinite, logged(root / name)))


def test_data_that_are_not_prepared_are_named(root: Path) -> None:
    path = root / "cityscapes" / "gtFine" / "cityscapes_panoptic_val.json"
    path.rename(path.with_suffix(".gone"))
    try:
        with pytest.raises(FileNotFoundError, match=r"_panoptic_val' is not whole: "):
            instantiate(recipe(RECIPES[2]).dataloader.test.dataset)
    finally:
        path.with_suffix(".gone").rename(path)


def test_views_are_refused(root: Path) -> None:
    for override in ("inference.tta=True", "inference.window=[64,64]"):
        with pytest.raises(ValueError, match="must not have tta or a window for a panoptic model"):
            build_inference_model(recipe(OURS, override), torch.nn.Identity())
