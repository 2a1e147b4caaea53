"""What a config feeds its model with: the names of its data sets, and their mappers."""

from collections.abc import Callable

from detectron2.config import CfgNode, instantiate
from omegaconf import DictConfig, OmegaConf

from .build import build_test_mapper, build_yacs_mapper
from .settings import is_yacs


def dataset_names(cfg: CfgNode | DictConfig, *, is_train: bool) -> list[str]:
    """Names of the data sets that a config trains on, or tests on."""
    if is_yacs(cfg):
        return list(cfg.DATASETS.TRAIN if is_train else cfg.DATASETS.TEST)
    part = "train" if is_train else "test"
    names = OmegaConf.select(cfg, f"dataloader.{part}.dataset.names", default=None)
    return [names] if isinstance(names, str) else list(names or [])


def build_mapper(cfg: CfgNode | DictConfig, *, is_train: bool) -> Callable[[dict], dict]:
    """What makes a model's input of a record, when training or when testing."""
    if not is_train:
        return build_test_mapper(cfg)
    if is_yacs(cfg):
        return build_yacs_mapper(cfg, is_train=True)
    return instantiate(cfg.dataloader.train.mapper)
