"""Table 1's models train and evaluate on drawn scenes, as all other models of the tables."""

from typing import Any

import pytest
from omegaconf import DictConfig
from torch import nn

from ifa_d2.modeling import IFASemSegHead
from tests.modeling.test_architectures import (
    Architecture,
    collect,
    distinct_configs,
    scenes,
    small_model,
)

__all__ = ["scenes"]  # the fixture of the base


def head_with_offsets(**kwargs: Any) -> IFASemSegHead:
    """Offsets begin at zero, which in two iterations leaves what they come from where it was."""
    head = IFASemSegHead(**kwargs)
    for name, parameter in head.dense_alignment.named_parameters():
        if "offsets.1" in name:
            nn.init.normal_(parameter, std=0.1)
    return head


class WithOffsets(Architecture):
    @pytest.fixture(scope="class")
    @classmethod
    def model_config(cls) -> DictConfig:
        model = small_model(cls.config)
        model.sem_seg_head["_target_"] = head_with_offsets
        return model


configs = [name for name in distinct_configs() if name.startswith("table1/")]
globals().update(collect(configs, alignseg=WithOffsets))
