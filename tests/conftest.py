"""What all tests share: fixed seeds, and hypothesis without time limits."""

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    np.random.seed(0)  # noqa: NPY002 (Detectron2's augmentations draw from it)
    torch.manual_seed(0)
