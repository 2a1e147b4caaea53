"""A data set on disk of three classes, whose pictures a test writes one by one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ifa_d2.data import register_sem_seg_folder

NAME = "evaluated"
CLASSES = ("grass", "rock", "water")
IGNORE = 11


class Pictures:
    """The data set's folder and what is fed to an evaluator."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, label: np.ndarray, *, palette: bool = False) -> dict[str, str]:
        """Write a label and its image; returns the model's input, without the image."""
        kind = np.uint16 if label.max(initial=0) > 255 else np.uint8
        picture = Image.fromarray(label.astype(kind))
        if palette:
            picture.putpalette(list(range(256)) * 3)
        for folder, one in (("labels", picture), ("images", Image.new("RGB", picture.size))):
            path = self.root / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            one.save(path)
        return {"file_name": str(path)}


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    folders = tmp_path / "images", tmp_path / "labels"
    for folder in folders:
        folder.mkdir()
    register_sem_seg_folder(NAME, *folders, CLASSES, ignore_label=IGNORE)
    yield Pictures(tmp_path)
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def logits(prediction: np.ndarray, num_classes: int = len(CLASSES)) -> dict[str, torch.Tensor]:
    """A model's output whose most likely classes are these."""
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), num_classes)
    return {"sem_seg": one_hot.permute(2, 0, 1).float()}


def labels(prediction: np.ndarray) -> dict[str, torch.Tensor]:
    """Same, as labels."""
    return {"sem_seg": torch.from_numpy(prediction).byte()}
