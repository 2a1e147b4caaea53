"""Rows of the paper's tables: their models, and their training recipes here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compared_runs import queries_of_grid
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from ifa_d2 import get_config
from ifa_d2.modeling import fit_channels, use_alignment
from ifa_d2.modeling.timm_backbone import NORMS

HERE = Path(__file__).resolve().parent
LEVELS = ("res2", "res3", "res4", "res5")
SMALL_DATASETS = ("shapes", "camvid")
BACKBONES = ("r18", "paper")
# Data, optimiser and schedule of a training.
_RECIPES = {
    ("shapes", "r18"): "shapes/ifa_r18.py",
    ("shapes", "paper"): "shapes/ifa_r18.py",
    ("camvid", "r18"): "camvid/ifa_r18.py",
    ("camvid", "paper"): "camvid/ifa_r50.py",
    ("cityscapes", "r18"): "cityscapes/ifa_r18.py",
}
# (height, width) in pixels of a picture, for its multiply-adds.
INPUT_SIZES = {
    "shapes": (128, 192),
    "camvid": (360, 480),
    "cityscapes": (1024, 2048),
    "pascal_context": (480, 480),
    "ade20k": (512, 512),
}
_OBJECTS = {"allow_objects": True}  # as LazyConfig's own
_SMALL_HRNETS = {
    "hrnet_w18": ("hrnet_w18_small", (16, 32, 64, 128)),
    "hrnet_w48": ("hrnet_w18_small_v2", (18, 36, 72, 144)),
}


def read_paper_tables() -> dict[str, dict[str, Any]]:
    """Read the paper's tables, by number, from paper_tables.json."""
    return _read()["tables"]


def _read() -> dict[str, Any]:
    return json.loads((HERE / "paper_tables.json").read_text(encoding="utf-8"))


def paper_models() -> list[str]:
    """Names of the models of paper_tables.json."""
    return list(_read()["models"])


def paper_model(name: str) -> DictConfig:
    """Config of a model of paper_tables.json, which has no more than ``model``."""
    entry = _read()["models"][name]
    if "of" in entry:
        cfg = paper_model(entry["of"])
    else:
        cfg = OmegaConf.create({"model": get_config(entry["base"]).model}, flags=_OBJECTS)
    cfg = LazyConfig.apply_overrides(cfg, entry.get("overrides", []))
    fit_channels(cfg.model.sem_seg_head)
    if "alignment" in entry:
        use_alignment(cfg.model.sem_seg_head, entry["alignment"])
    return cfg


def row_config(row: dict[str, Any], num_classes: int) -> DictConfig:
    """Load the config of a row; only its ``model`` is complete."""
    cfg = paper_model(row["config"])
    cfg.model.sem_seg_head.num_classes = num_classes
    return cfg


def row_name(row: dict[str, Any]) -> str:
    """Short name of a row: its model's without the table."""
    return Path(row["config"]).name


def choose_rows(table: dict[str, Any], names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Choose a table's rows by name, in the table's order; None is all.

    Raises:
        ValueError: a row that is not there.
    """
    there = [row_name(row) for row in table["rows"]]
    unknown = [name for name in names or () if name not in there]
    if unknown:
        text = f"--rows must be of {', '.join(there)}, got {', '.join(unknown)}"
        changes = any("=" in name for name in unknown)
        raise ValueError(f"{text}: key=value goes after a lone --" if changes else text)
    return [row for row in table["rows"] if names is None or row_name(row) in names]


def trained_config(row: dict[str, Any]) -> str:
    """Name of the model that all rows of the same model are trained by."""
    return row.get("same_as", row["config"])


def _recipe(dataset: str, backbone: str, depth: int) -> str:
    """Training recipe for a row with a ResNet of this depth, before it is shrunk.

    Raises:
        ValueError: no weights to begin with.
    """
    if dataset not in SMALL_DATASETS:
        if backbone == "paper":
            return f"{dataset}/ifa_r{depth}.py"
        if (dataset, backbone) not in _RECIPES or depth == 101:
            raise ValueError(
                f"--backbone must be paper on {dataset} for a ResNet-{depth}, got {backbone!r}: "
                "there are no weights for its small form"
            )
    return _RECIPES[dataset, backbone]


def training_config(
    row: dict[str, Any], dataset: str, backbone: str, norm: str = "BN"
) -> DictConfig:
    """Build the complete recipe of a row: the data set's recipe, with the row's model.

    Rows that are trained at points draw them from the crops' labels, as many as the grid has cells.

    Args:
        row: of paper_tables.json.
        dataset: one of :data:`SMALL_DATASETS`, or the ``data`` of the row's table.
        backbone: "paper", or "r18" for what :func:`shrink` makes of it.
        norm: of all layers; "BN" is for one process.

    Raises:
        ValueError: a small form that has no weights for the data set, or a norm that timm's
            backbones do not have.
    """
    model = paper_model(trained_config(row)).model
    cfg = get_config(_recipe(dataset, backbone, model.backbone.get("depth", 50)))
    model.sem_seg_head.num_classes = cfg.model.sem_seg_head.num_classes
    if backbone == "r18":
        shrink(model)
    if norm not in NORMS and "model_name" in model.backbone:
        raise ValueError(
            f"--num-processes must be 1 for {row['config']}, or --num-gpus be used: the norms of "
            f"timm's backbones are {', '.join(NORMS)}, not {norm}"
        )
    model.backbone.norm = norm
    if "model_name" in model.backbone and cfg.train.init_checkpoint:
        # The recipe's weights are a ResNet's.
        cfg.train.init_checkpoint = ""
        model.backbone.pretrained = True
    cfg.model = model
    cfg.dataloader.train.mapper.num_points = 0  # those that the recipes of shapes and camvid draw
    if "sampler" in cfg.model.sem_seg_head.targets:
        cfg.model.sem_seg_head.targets.sampler.num_points = queries_of_grid(cfg)
    return cfg


def shrink(model: DictConfig) -> None:
    """Replace a model's backbone by a small one, in place; compared parts stay.

    A ResNet-18 or -50 becomes that of the R-18 recipes, a ResNet-101 the same of depth 34: their
    blocks have no dilation, so that they lose the multi-grid and a dilated row has stride 32.
    HRNet-W18 and -W48 become timm's ``hrnet_w18_small`` and ``hrnet_w18_small_v2``. Other strides,
    projections, alignment, decoder and MLP are the row's own, but for widths that follow the
    backbone's.
    """
    head, levels = model.sem_seg_head, model.sem_seg_head.levels
    before = [levels.input_shape[level].channels for level in LEVELS]
    if "model_name" in model.backbone:
        model.backbone.model_name, channels = _SMALL_HRNETS[model.backbone.model_name]
    else:
        depth = 34 if model.backbone.depth == 101 else 18
        model.backbone.update(depth=depth, stem_channels=64, res5_multi_grid=None)
        if model.backbone.pop("output_stride", 32) != 32:
            for level, stride in zip(LEVELS, (4, 8, 16, 32), strict=True):
                levels.input_shape[level].stride = stride
        channels = (64, 128, 256, 512)
        head.aux_heads[0].channels = 64
    for level, count in zip(LEVELS, channels, strict=True):
        levels.input_shape[level].channels = count
    # HRNet's levels are its features, and its layer is as wide as they are together.
    if list(levels.channels) == before:
        levels.channels = list(channels)
    if list(head.alignment.hidden_dims) == [sum(before)]:
        head.alignment.hidden_dims = [sum(channels)]
    fit_channels(head)
