"""What the recipes have in common: labels at hand where points are drawn, and a boundary head."""

import sys
from pathlib import Path

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from ifa_d2.data.points import PointSampler
from ifa_d2.modeling import PointTargets

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from boundary_head import BoundaryHead  # noqa: E402
from inverse_form import InverseFormLoss  # noqa: E402


def draw_points_in_head(recipe: DictConfig) -> None:
    """Let the head draw the points that the mapper drew, as the losses need all labels."""
    mapper = recipe.dataloader.train.mapper
    recipe.model.sem_seg_head.targets = L(PointTargets)(
        sampler=L(PointSampler)(
            num_points=mapper.pop("num_points"), sampling=mapper.pop("point_sampling")
        )
    )


def add_boundary_head(head: DictConfig) -> None:
    """Add a boundary head of all features, with attention and the inverse form, to the others."""
    names = list(head.levels.input_shape)
    boundary = L(BoundaryHead)(
        features=names,
        in_channels=["${....levels.input_shape." + name + ".channels}" for name in names],
        channels=64,
        norm="${...levels.norm}",
        boundary_width=2,
        boundary_weight=0.3,
        attention_weight=0.1,
        attention_threshold=0.8,
        inverse_form=L(InverseFormLoss)(net_file=None, tile_size=64, loss_weight=0.3),
    )
    head.aux_heads = [*head.aux_heads, boundary]
