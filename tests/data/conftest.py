"""Small data sets on disk."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

_LONG = 250 * "d"  # letters of a folder's name; a path may have 4096
Write = Callable[..., tuple[Path, Path]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an image and a label of random pixels, or the ones given, and return their paths."""

    def write_pair(
        name: str = "a",
        size: tuple[int, int] = (7, 9),
        label: np.ndarray | None = None,
        image: np.ndarray | None = None,
        num_classes: int = 3,
    ) -> tuple[Path, Path]:
        rng = np.random.default_rng(abs(hash(size)) % 1000)
        if image is None:
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        if label is None:
            label = rng.integers(0, num_classes, size, dtype=np.uint8)
        paths = tmp_path / "images" / f"{name}.png", tmp_path / "labels" / f"{name}.png"
        for path, pixels in zip(paths, (image, label), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return paths

    return write_pair


@pytest.fixture
def closed_folder() -> Callable[[Path], None]:
    """Put a folder below another that no system lists by its path, whoever asks: it is too long."""

    def make(root: Path) -> None:
        here = os.open(root, os.O_RDONLY)
        for _ in range(20):
            os.mkdir(_LONG, dir_fd=here)
            below = os.open(_LONG, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    return make


@pytest.fixture(autouse=True)
def catalogs() -> Iterator[None]:
    """Forget the data sets that a test registered."""
    before = set(DatasetCatalog), set(MetadataCatalog)
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog) - names:
            catalog.remove(name)
