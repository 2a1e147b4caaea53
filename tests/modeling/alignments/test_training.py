"""Table 1's models train and evaluate on drawn scenes, as all other models of the tables."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from torch import nn

from ifa_d2.modeling import IFASemSegHead
from tests.modeling.test_architectures import (
    Architecture,
    distinct_configs,
    of_configs,
    scenes,
    small_model,
)

__all__ = ["scenes"]  # the fixture of the base


def head_with_offsets(**kwargs: Any) -> IFASemSegHead:
    """A head whose offsets do not begin at zero, so that two iterations move the layers before."""
    head = IFASemSegHead(**kwargs)
    for name, parameter in head.levels.dense_alignment.named_parameters():
        if "offsets.1" in name:
            nn.init.normal_(parameter, std=0.1)
    return head


@of_configs(name for name in distinct_configs() if name.startswith("table1/"))
class TestTable1(Architecture):
    @pytest.fixture(scope="class")
    @classmethod
    def model_config(cls, request: pytest.FixtureRequest) -> DictConfig:
        model = small_model(request.param)
        if Path(request.param).stem == "alignseg":
            model.sem_seg_head["_target_"] = head_with_offsets
        return model
