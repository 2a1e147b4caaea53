import pytest
import torch
from detectron2.config import get_cfg
from omegaconf import OmegaConf

from ifa_d2 import add_ifa_config
from ifa_d2.engine.settings import TrainSettings


def settings(**train: object) -> TrainSettings:
    cfg = OmegaConf.create({"train": {"max_iter": 10, "batch_size": 4, "device": "cpu", **train}})
    return TrainSettings.from_config(cfg)


def test_what_a_recipe_leaves_out_has_a_default() -> None:
    found = settings()
    assert (found.max_iter, found.batch_size) == (10, 4)
    assert (found.seed, found.amp_dtype, found.checkpoints_to_keep) == (None, None, None)
    assert found.eval_period == 0


def test_values_are_taken_over() -> None:
    found = settings(
        seed=3,
        amp={"enabled": True, "dtype": "bfloat16"},
        ddp={"find_unused_parameters": True},
        checkpointer={"period": 7, "max_to_keep": 1},
    )
    assert (found.seed, found.amp_dtype) == (3, torch.bfloat16)
    assert found.find_unused_parameters and not found.fp16_compression
    assert (found.checkpoint_period, found.checkpoints_to_keep) == (7, 1)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"max_iter": 0}, "train.max_iter must be a positive whole number, got 0"),
        ({"batch_size": 2.5}, "train.batch_size must be a positive whole number, got 2.5"),
        ({"eval_period": -1}, "train.eval_period must be 0 or a whole number above, got -1"),
        ({"seed": "abc"}, "train.seed must be a whole number, or below 0, got 'abc'"),
        ({"device": "tpu"}, "train.device must be auto, cpu or cuda, got 'tpu'"),
        ({"amp": {"enabled": True}}, "train.amp.dtype float16 needs a GPU"),
        ({"amp": {"enabled": True, "dtype": "int8"}}, "train.amp.dtype must be one of"),
    ],
)
def test_bad_values_are_named(train: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**train)


def test_bad_values_are_named_as_yacs_names_them() -> None:
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.SOLVER.IMS_PER_BATCH = -4
    with pytest.raises(ValueError, match=r"train\.batch_size \(SOLVER\.IMS_PER_BATCH in a"):
        TrainSettings.from_config(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="torch sees no GPU here: use cpu"):
        settings(device="cuda")


def test_batch_that_does_not_divide() -> None:
    settings(batch_size=6).check_world_size(3)
    message = r"train\.batch_size .* must be a multiple of the number of processes, 4, got 6"
    with pytest.raises(ValueError, match=message):
        settings(batch_size=6).check_world_size(4)


def test_neither_kind_of_config() -> None:
    with pytest.raises(ValueError, match="cfg must be a CfgNode or a DictConfig, got dict"):
        TrainSettings.from_config({"train": {}})
