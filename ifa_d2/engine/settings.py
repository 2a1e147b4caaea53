"""Settings of a run besides its model, data and optimiser."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from omegaconf import DictConfig, OmegaConf

from .yacs_config import TRAIN_KEYS as YACS_KEYS
from .yacs_config import to_lazy_config

_LONGEST_PERIOD = 1000  # iterations between two checkpoints, where a config does not say
_AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run, read from ``train`` of a config.

    Attributes:
        output_dir: where checkpoints, metrics and logs go.
        init_checkpoint: weights to start from, a path or an address; empty starts from scratch.
        partial_checkpoint: those weights may lack more than half of the backbone.
        max_iter: iterations of the whole training.
        batch_size: images in an iteration, over all processes.
        seed: of all random numbers; None draws one.
        deterministic: let torch choose deterministic kernels.
        device: "cpu" or "cuda".
        amp_dtype: floating point type of autocast; None trains in float32.
        accumulation_steps: parts in which the images of a process pass the model, one after the
            other.
        activation_checkpointing: compute the backbone's blocks again for their gradients.
        ema_decay: of the average of the weights; 0 is no average.
        patience: evaluations without a better figure, after which training ends; 0 never ends it.
        find_unused_parameters, fp16_compression: of DistributedDataParallel.
        checkpoint_period: iterations between two checkpoints; 0 in a config is a tenth of
            ``max_iter``, 1000 at most.
        checkpoints_to_keep: how many of those to keep; None keeps all.
        eval_period: iterations between two evaluations; 0 evaluates only at the end.
        log_period: iterations between two lines of the log.
        precise_bn_iters: batches to estimate BatchNorm statistics from before an evaluation; 0
            leaves the running averages.
        cudnn_benchmark: let cuDNN choose kernels by timing them.
    """

    output_dir: str
    init_checkpoint: str
    partial_checkpoint: bool
    max_iter: int
    batch_size: int
    seed: int | None
    deterministic: bool
    device: str
    amp_dtype: torch.dtype | None
    accumulation_steps: int
    activation_checkpointing: bool
    ema_decay: float
    patience: int
    find_unused_parameters: bool
    fp16_compression: bool
    checkpoint_period: int
    checkpoints_to_keep: int | None
    eval_period: int
    log_period: int
    precise_bn_iters: int
    cudnn_benchmark: bool

    @classmethod
    def from_config(cls, cfg: CfgNode | DictConfig) -> "TrainSettings":
        """Read and check the settings.

        Args:
            cfg: of either kind.

        Raises:
            ValueError: a setting out of its range, named as the config names it.
        """
        cfg = to_lazy_config(cfg)
        values, names = _read(cfg), _names(cfg)
        for key in ("max_iter", "batch_size", "log_period", "accumulation_steps"):
            if not (isinstance(values[key], int) and values[key] > 0):
                name = names[key]
                raise ValueError(f"{name} must be a positive whole number, got {values[key]!r}")
        for key in (
            *("checkpoint_period", "eval_period", "checkpoints_to_keep", "precise_bn_iters"),
            "patience",
        ):
            if not (isinstance(values[key], int) and values[key] >= 0):
                name = names[key]
                raise ValueError(f"{name} must be 0 or a whole number above, got {values[key]!r}")
        _check_average(values, names)
        if values["patience"] and not values["eval_period"]:
            raise ValueError(
                f"{names['patience']} needs evaluations during the training, "
                f"{names['eval_period']} above 0, got {values['patience']} with 0"
            )
        if values["seed"] is not None and not isinstance(values["seed"], int):
            name = names["seed"]
            raise ValueError(f"{name} must be a whole number, or below 0, got {values['seed']!r}")
        if not values["checkpoint_period"]:
            values["checkpoint_period"] = max(1, min(_LONGEST_PERIOD, values["max_iter"] // 10))
        values["checkpoints_to_keep"] = values["checkpoints_to_keep"] or None
        values["seed"] = None if values["seed"] is None or values["seed"] < 0 else values["seed"]
        values["device"] = _device(values["device"], names["device"])
        enabled, dtype = values.pop("amp_enabled"), values["amp_dtype"]
        values["amp_dtype"] = _amp_dtype(dtype, values["device"], names) if enabled else None
        return cls(**values)

    def check_world_size(self, world_size: int) -> None:
        """Raise a ValueError unless the batch divides evenly among processes, and their parts."""
        parts = world_size * self.accumulation_steps
        if not self.batch_size % world_size and self.batch_size % parts:
            raise ValueError(
                f"train.accumulation_steps must divide a process's share of train.batch_size, "
                f"{self.batch_size // world_size}, got {self.accumulation_steps}"
            )
        if self.batch_size % world_size:
            raise ValueError(
                "train.batch_size (SOLVER.IMS_PER_BATCH in a .yaml) must be a multiple of the "
                f"number of processes, {world_size}, got {self.batch_size}"
            )


# What a setting is called below "train" of a LazyConfig, and what it is where a user's own recipe
# leaves it out; max_iter and batch_size have to be there.
_SETTINGS = {
    "output_dir": ("output_dir", ""),
    "init_checkpoint": ("init_checkpoint", ""),
    "partial_checkpoint": ("partial_checkpoint", False),
    "max_iter": ("max_iter", None),
    "batch_size": ("batch_size", None),
    "seed": ("seed", -1),
    "deterministic": ("deterministic", False),
    "device": ("device", "auto"),
    "amp_enabled": ("amp.enabled", False),
    "amp_dtype": ("amp.dtype", "float16"),
    "accumulation_steps": ("accumulation_steps", 1),
    "activation_checkpointing": ("activation_checkpointing", False),
    "ema_decay": ("ema.decay", 0.0),
    "patience": ("early_stopping.patience", 0),
    "find_unused_parameters": ("ddp.find_unused_parameters", False),
    "fp16_compression": ("ddp.fp16_compression", False),
    "checkpoint_period": ("checkpointer.period", 0),
    "checkpoints_to_keep": ("checkpointer.max_to_keep", 0),
    "eval_period": ("eval_period", 0),
    "log_period": ("log_period", 20),
    "precise_bn_iters": ("precise_bn_iters", 0),
    "cudnn_benchmark": ("cudnn_benchmark", False),
}
# All that is read below "train" of a LazyConfig.
TRAIN_KEYS = (
    *(key for key, _ in _SETTINGS.values()),
    "reference_batch_size",
    "reference_world_size",
    "expected_results",
    *(f"clip_gradients.{key.lower()}" for key in get_cfg().SOLVER.CLIP_GRADIENTS),
)


def _read(cfg: DictConfig) -> dict[str, Any]:
    values = {}
    for name, (key, default) in _SETTINGS.items():
        value = OmegaConf.select(cfg.train, key)
        values[name] = default if value is None else value
    return values


def _names(cfg: DictConfig) -> dict[str, str]:
    """What messages call the settings: of a config that was a yacs one, by that name as well."""
    keys = {name: key for name, (key, _) in _SETTINGS.items()}
    if "yacs" not in cfg:
        return {name: f"train.{key}" for name, key in keys.items()}
    return {name: f"train.{key} ({YACS_KEYS[key]} in a .yaml)" for name, key in keys.items()}


def _check_average(values: dict[str, Any], names: dict[str, str]) -> None:
    decay = values["ema_decay"]
    if not 0 <= decay < 1:
        raise ValueError(f"{names['ema_decay']} must be in [0, 1), such as 0.999, got {decay!r}")
    if decay and values["precise_bn_iters"]:
        raise ValueError(
            f"{names['ema_decay']} averages the statistics of batch norms, and "
            f"{names['precise_bn_iters']} takes others: set one of them to 0, got {decay} and "
            f"{values['precise_bn_iters']}"
        )


def _device(device: str, name: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be auto, cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{name} is {device!r}, but torch sees no GPU here: use cpu")
    return device


def _amp_dtype(dtype: str, device: str, names: dict[str, str]) -> torch.dtype:
    name = names["amp_dtype"]
    if dtype not in _AMP_DTYPES:
        raise ValueError(f"{name} must be one of {sorted(_AMP_DTYPES)}, got {dtype!r}")
    if dtype == "float16" and not device.startswith("cuda"):
        raise ValueError(f"{name} float16 needs a GPU: use bfloat16 on the CPU")
    return _AMP_DTYPES[dtype]


def unread_keys(cfg: CfgNode | DictConfig) -> list[str]:
    """Keys below ``train`` that nothing reads."""
    cfg = to_lazy_config(cfg)
    keys = leaf_keys(OmegaConf.to_container(cfg.train))
    return [f"train.{key}" for key in keys if key not in TRAIN_KEYS]


def leaf_keys(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all values in dicts of dicts, as a yacs config is one."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaf_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
