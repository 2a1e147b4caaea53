"""What the tests of all recipes check."""

import json
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from ifa_d2.arguments import training_parser
from ifa_d2.cli.train_net import main
from ifa_d2.engine.run import load_config


def train_net(config_file: str | Path, *arguments: str) -> dict[str, Any]:
    """Call the main function of tools/train_net.py in this process; its figures."""
    return main(training_parser("").parse_args(["--config-file", str(config_file), *arguments]))


def logged(folder: Path, name: str = "total_loss") -> list[float]:
    """List the values of a metric in a run's metrics.json."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def check_saved_again(cfg: DictConfig, folder: Path) -> None:
    """Check that a recipe is saved as text alone, and loads as the same.

    Args:
        cfg: that is saved.
        folder: an empty one, for the files.
    """
    path, again = folder / "config.yaml", folder / "again.yaml"
    LazyConfig.save(cfg, str(path))
    assert not (folder / "config.yaml.pkl").exists()
    loaded = load_config(str(path))  # it runs no code that a tag in the file asks for
    assert isinstance(loaded, DictConfig)
    loaded.train.output_dir = cfg.train.output_dir
    LazyConfig.save(loaded, str(again))
    assert path.read_text() == again.read_text()
