"""Seven small pictures of three classes, and the recipe over them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from ifa_d2.engine import Trainer
from ifa_d2.engine.run import load_config, setup_run

RECIPE = Path(__file__).with_name("tiny_recipe.py")
COUNT = 7


def write_tiny_data(root: Path, *, unlabelled: bool = True) -> Path:
    """Write images/ and labels/ of 40 x 48 pixels: two halves, a dark square, two unlabelled rows.

    The folder that the environment variable TINY_DATA must name for the recipe.
    """
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for index in range(COUNT):
        edge = int(rng.integers(16, 32))
        label = np.zeros((40, 48), np.uint8)
        label[:, edge:] = 1
        top, left = rng.integers(4, 20, 2)
        label[top : top + 12, left : left + 12] = 2
        image = np.array([[200, 60, 60], [60, 200, 60], [20, 20, 120]], np.float64)[label]
        image = (image + rng.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
        if unlabelled:
            label[:2] = 255
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(label).save(root / "labels" / f"{index}.png")
    return root


def tiny_config(output_dir: Path, *overrides: str) -> DictConfig:
    """The recipe with its outputs in a folder."""
    return load_config(str(RECIPE), [f"train.output_dir={output_dir}", *overrides])


def train_tiny(output_dir: Path, *overrides: str, resume: bool = False) -> dict[str, Any]:
    """Train the recipe; returns the final checkpoint."""
    cfg = tiny_config(output_dir, *overrides)
    setup_run(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return torch.load(output_dir / "model_final.pth", weights_only=True)


def assert_same(left: Any, right: Any) -> None:
    """The two trees of dicts, sequences, tensors and numbers are equal bit for bit."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    else:
        assert left == right
