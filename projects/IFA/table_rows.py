"""The rows of the paper's tables: their models, and what trains them here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from ifa_d2 import get_config
from ifa_d2.analysis.runs import queries_of_grid

HERE = Path(__file__).resolve().parent
LEVELS = ("res2", "res3", "res4", "res5")
DATASETS = ("shapes", "camvid", "cityscapes")
BACKBONES = ("r18", "paper")
# Data, optimiser and schedule of a training.
_RECIPES = {
    ("shapes", "r18"): "shapes/ifa_r18.py",
    ("shapes", "paper"): "shapes/ifa_r18.py",
    ("camvid", "r18"): "camvid/ifa_r18.py",
    ("camvid", "paper"): "camvid/ifa_r50.py",
    ("cityscapes", "r18"): "cityscapes/ifa_r18.py",
    ("cityscapes", "paper"): "cityscapes/ifa_r50.py",
}
# (height, width) in pixels of a picture, for its multiply-adds.
INPUT_SIZES = {"shapes": (128, 192), "camvid": (360, 480), "cityscapes": (1024, 2048)}
_SMALL_HRNETS = {
    "hrnet_w18": ("hrnet_w18_small", (16, 32, 64, 128)),
    "hrnet_w48": ("hrnet_w18_small_v2", (18, 36, 72, 144)),
}


def read_paper_tables() -> dict[str, dict[str, Any]]:
    """The paper's tables by their number, as paper_tables.json holds them."""
    return json.loads((HERE / "paper_tables.json").read_text(encoding="utf-8"))["tables"]


def row_config(row: dict[str, Any], num_classes: int) -> DictConfig:
    """The config of a row, of which ``model`` is complete."""
    if "recipe" in row:
        cfg = get_config(row["recipe"])
    else:
        cfg = LazyConfig.load(str(HERE / "configs" / row["config"]))
    cfg.model.sem_seg_head.num_classes = num_classes
    return cfg


def row_name(row: dict[str, Any]) -> str:
    """A row's short name: that of its config, without folder and suffix."""
    return Path(row["config"]).stem


def choose_rows(table: dict[str, Any], names: Sequence[str] | None) -> list[dict[str, Any]]:
    """A table's rows of these names, in the table's order; None is all.

    Raises:
        ValueError: a row that is not there.
    """
    there = [row_name(row) for row in table["rows"]]
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise ValueError(f"--rows must be of {', '.join(there)}, got {', '.join(unknown)}")
    return [row for row in table["rows"] if names is None or row_name(row) in names]


def trained_config(row: dict[str, Any]) -> str:
    """The config that a row is trained by, without suffix: one for all rows of the same model."""
    return str(Path(row.get("same_as", row["config"])).with_suffix(""))


def training_config(row: dict[str, Any], dataset: str, backbone: str) -> DictConfig:
    """The complete recipe that trains a row: the data set's, with the row's model.

    Norms are plain batch norms, which one process trains with. Rows that are trained at points draw
    them from the crops' labels, as many as the grid has cells.

    Args:
        row: of paper_tables.json.
        dataset: one of :data:`DATASETS`.
        backbone: "paper", or "r18" for what :func:`shrink` makes of it.
    """
    cfg = get_config(_RECIPES[dataset, backbone])
    model = row_config(
        {"config": f"{trained_config(row)}.py"}, cfg.model.sem_seg_head.num_classes
    ).model
    if backbone == "r18":
        shrink(model)
    model.backbone.norm = "BN"
    if "model_name" in model.backbone and cfg.train.init_checkpoint:
        # The recipe's weights are a ResNet's.
        cfg.train.init_checkpoint = ""
        model.backbone.pretrained = True
    cfg.model = model
    cfg.dataloader.train.mapper.num_points = 0  # those that the recipes of shapes and camvid draw
    cfg.model.sem_seg_head.num_points = queries_of_grid(cfg)
    return cfg


def shrink(model: DictConfig) -> None:
    """Put a small backbone in place of a model's own, in place; what a table compares stays.

    A ResNet becomes that of the R-18 recipes (no multi-grid: its blocks have no dilation),
    HRNet-W18 and -W48 become timm's ``hrnet_w18_small`` and ``hrnet_w18_small_v2``. Strides,
    projections, alignment, decoder and MLP are the row's own, but for widths that follow the
    backbone's.
    """
    head = model.sem_seg_head
    before = [head.input_shape[level].channels for level in LEVELS]
    if "model_name" in model.backbone:
        model.backbone.model_name, channels = _SMALL_HRNETS[model.backbone.model_name]
    else:
        model.backbone.update(depth=18, stem_channels=64, res5_multi_grid=None)
        channels = (64, 128, 256, 512)
        head.aux_channels = 64
    for level, count in zip(LEVELS, channels, strict=True):
        head.input_shape[level].channels = count
    if list(head.get("hidden_dims", ())) == [sum(before)]:  # HRNet's layer as wide as its input
        head.hidden_dims = (sum(channels),)
