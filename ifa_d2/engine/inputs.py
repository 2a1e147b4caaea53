"""What a config feeds its model with: the names of its data sets, their records and mappers."""

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog
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


def check_datasets(cfg: CfgNode | DictConfig, *, is_train: bool) -> None:
    """Raise a ValueError unless the data sets that a config trains on, or tests on, are known."""
    for name in dataset_names(cfg, is_train=is_train):
        _check_registered(name)


def _check_registered(name: str) -> None:
    if name not in DatasetCatalog:
        raise ValueError(f"dataset must be one of {sorted(DatasetCatalog)}, got {name!r}")


def choose_records(name: str, num: int) -> list[dict[str, Any]]:
    """``num`` records of a data set, or all if it has fewer, evenly spread.

    Raises:
        ValueError: no such data set, or ``num`` below 1.
    """
    _check_registered(name)
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    records = DatasetCatalog.get(name)
    count = min(num, len(records))
    return [records[index * len(records) // count] for index in range(count)]


def build_mapper(cfg: CfgNode | DictConfig, *, is_train: bool) -> Callable[[dict], dict]:
    """What makes a model's input of a record, when training or when testing."""
    if not is_train:
        return build_test_mapper(cfg)
    if is_yacs(cfg):
        return build_yacs_mapper(cfg, is_train=True)
    return instantiate(cfg.dataloader.train.mapper)
