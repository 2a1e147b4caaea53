"""The pictures that the tests of the trainer run on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import train_tiny, write_tiny_data


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The folder of a run of 6 iterations, checkpoint and evaluation after 3; only to be read."""
    output = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(tiny_folder))
        train_tiny(output)
    return output


@pytest.fixture(autouse=True)
def tiny_data(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TINY_DATA", str(tiny_folder))
    yield tiny_folder
    torch.use_deterministic_algorithms(False)
