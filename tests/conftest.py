"""Fixtures and hooks of all tests: seeds, hypothesis without time limits, GPU and slow tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import settings

from tests.tiny import train_tiny, write_tiny_data

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # the others keep theirs


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seed() -> None:
    np.random.seed(0)  # noqa: NPY002 (Detectron2's augmentations draw from it)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _catalogs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the data sets in folders of a module's tests: another module may use their names."""
    before = set(DatasetCatalog)
    yield
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(DatasetCatalog) - before:
        if folder in repr(DatasetCatalog[name]):
            DatasetCatalog.remove(name)
            if name in MetadataCatalog:
                MetadataCatalog.remove(name)


@pytest.fixture(autouse=True, scope="session")
def _datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data sets lie in a folder of all processes' tests, where `shapes` draws itself once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "datasets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(folder))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of small pictures, and in its out/ a model trained on them for two iterations."""
    root = write_tiny_data(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(root))
        train_tiny(root / "out", "train.max_iter=2")
        yield root
    torch.use_deterministic_algorithms(False)
