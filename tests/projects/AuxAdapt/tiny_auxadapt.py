"""AuxAdapt of two models of tests/tiny_recipe.py."""

from aux_adapt import AuxAdaptSegmentor
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf

from ...tiny_recipe import dataloader, lr_multiplier, optimizer, train  # noqa: F401 (of the recipe)
from ...tiny_recipe import model as _tiny


def _part() -> DictConfig:
    """The model with its interpolations, which begin at the recipe's root, filled in."""
    root = OmegaConf.create({"model": _tiny}, flags={"allow_objects": True})
    OmegaConf.resolve(root)
    return root.model


model = L(AuxAdaptSegmentor)(
    main=_part(), auxiliary=_part(), learning_rate=0.05, cut_distance=None, scale=0.5
)
