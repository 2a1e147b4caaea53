"""Data sets of configs, and some of their records."""

from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from ifa_d2.engine.inputs import check_datasets, choose_records, dataset_names
from ifa_d2.engine.run import load_config


def test_data_sets_must_be_known() -> None:
    for recipe, key in (
        ("shapes/ifa_r18.py", "dataloader.{}.dataset.names=nowhere"),
        ("shapes/ifa_r18.yaml", "DATASETS.{}=('nowhere',)"),
    ):
        cfg = load_config(recipe)
        assert dataset_names(cfg, is_train=True) == ["shapes_train"]
        assert dataset_names(cfg, is_train=False) == ["shapes_val"]
        for part in ("train", "test"):
            name = part.upper() if recipe.endswith(".yaml") else part
            wrong = load_config(recipe, [key.format(name)])
            with pytest.raises(ValueError, match=r"dataset must be one of .*, got 'nowhere'"):
                check_datasets(wrong, is_train=part == "train")
            check_datasets(wrong, is_train=part != "train")


def test_records_are_spread_evenly() -> None:
    name = Path(__file__).stem
    DatasetCatalog.register(name, lambda: [{"file_name": f"{i}.png"} for i in range(10)])
    try:
        chosen = [record["file_name"] for record in choose_records(name, 4)]
        assert chosen == ["0.png", "2.png", "5.png", "7.png"]
        assert len(choose_records(name, 11)) == 10
        with pytest.raises(ValueError, match="num must be at least 1, got 0"):
            choose_records(name, 0)
    finally:
        DatasetCatalog.remove(name)
    with pytest.raises(ValueError, match=f"dataset must be one of .*, got '{name}'"):
        choose_records(name, 1)
