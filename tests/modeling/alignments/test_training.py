"""Table 1's models train and evaluate on drawn scenes, as all other models of the tables."""

from typing import Any

import pytest
from detectron2.config import LazyConfig
from omegaconf import DictConfig
from torch import nn

from ifa_d2.modeling import IFASemSegHead
from tests.modeling.test_architectures import CONFIGS, Architecture, scenes, shrink

__all__ = ["scenes"]  # the fixture of the base


class TestDeconvolution(Architecture):
    config = "table1/deconvolution.py"


class TestCarafe(Architecture):
    config = "table1/carafe.py"


def head_with_offsets(**kwargs: Any) -> IFASemSegHead:
    """Offsets begin at zero, which in two iterations leaves what they come from where it was."""
    head = IFASemSegHead(**kwargs)
    for name, parameter in head.dense_alignment.named_parameters():
        if "offsets.1" in name:
            nn.init.normal_(parameter, std=0.1)
    return head


class TestAlignSeg(Architecture):
    config = "table1/alignseg.py"

    @pytest.fixture(scope="class")
    @classmethod
    def model_config(cls) -> DictConfig:
        model = LazyConfig.load(str(CONFIGS / cls.config)).model
        shrink(model)
        model.sem_seg_head["_target_"] = head_with_offsets
        return model


class TestSapa(Architecture):
    config = "table1/sapa.py"
