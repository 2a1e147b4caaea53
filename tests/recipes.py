"""What the tests of all recipes check."""

from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from ifa_d2.engine.run import load_config


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
