"""Optimiser and learning rate schedule."""

import copy
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.solver import LRMultiplier, build_lr_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import LRScheduler, WarmupParamScheduler
from fvcore.common.param_scheduler import ParamScheduler, PolynomialDecayParamScheduler
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..modeling.blocks import layer_decay_factors, network_name
from .settings import TrainSettings
from .yacs_config import to_lazy_config, yacs_config

_logger = logging.getLogger(__name__)
_RATES = ("optimizer.lr", "optimizer.params.base_lr")
_COUNTS = (
    "train.max_iter",
    "train.eval_period",
    "train.checkpointer.period",
    "lr_multiplier.warmup_iters",
    "lr_multiplier.steps",
)


def _lr_factor(
    parameter_name: str,
    *,
    head_lr_factor: float,
    backbone_prefix: str,
    layers: Mapping[str, float],
) -> float:
    if parameter_name.startswith(backbone_prefix):
        return layers.get(parameter_name, 1.0)
    return head_lr_factor


def _layer_factors(model: nn.Module, prefix: str, decay: float) -> dict[str, float]:
    """Factors of the rate by parameter of the backbone, of its network of blocks alone."""
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1], got {decay}")
    if decay == 1:
        return {}
    backbone = model.get_submodule(prefix.rstrip("."))
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        raise ValueError(f"layer_decay must be 1 for a frozen backbone, got {decay}")
    inner = network_name(backbone)
    factors = layer_decay_factors(backbone.get_submodule(inner), decay)
    prefix = f"{prefix}{inner}." if inner else prefix
    return {f"{prefix}{name}": factor for name, factor in factors.items()}


def get_optimizer_params(
    model: nn.Module,
    base_lr: float,
    *,
    head_lr_factor: float = 1.0,
    backbone_prefix: str = "backbone.",
    layer_decay: float = 1.0,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser, with a rate of its own for what is not the backbone.

    Args:
        model: whose parameters to group.
        base_lr: learning rate of the backbone.
        head_lr_factor: learning rate of all other parameters, times ``base_lr``.
        backbone_prefix: how the names of the backbone's parameters begin. With a feature pyramid
            "backbone.bottom_up." counts the pyramid's own layers among the others.
        layer_decay: learning rate of each layer of the backbone, times that of the next, see
            :func:`.blocks.layer_decay_factors`. The layers are those of its network of blocks, in a
            pyramid without the pyramid's own.
        weight_decay_norm: weight decay of normalisation layers; None is the optimiser's.
        weight_decay_bias: weight decay of biases; None is the optimiser's.
        bias_lr_factor: learning rate of biases, times ``base_lr``.

    Raises:
        ValueError: ``head_lr_factor`` is not positive, or ``layer_decay`` not in (0, 1], or below
            1 for a backbone without blocks or a frozen one.
    """
    if head_lr_factor <= 0:
        raise ValueError(f"head_lr_factor must be positive, got {head_lr_factor}")
    return get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
        bias_lr_factor=bias_lr_factor,
        lr_factor_func=partial(
            _lr_factor,
            head_lr_factor=head_lr_factor,
            backbone_prefix=backbone_prefix,
            layers=_layer_factors(model, backbone_prefix, layer_decay),
        ),
    )


def poly_schedule(
    *,
    max_iter: int,
    power: float = 0.9,
    warmup_iters: float = 0,
    warmup_factor: float = 0.001,
    warmup_method: str = "linear",
) -> ParamScheduler:
    """The factor ``(1 - iteration / max_iter) ** power`` on the learning rate.

    Args:
        max_iter: iterations of the whole training.
        power: exponent of the decay.
        warmup_iters: iterations that lead up to that curve, or below 1 their share of ``max_iter``;
            0 starts on it.
        warmup_factor: where the warm-up starts.
        warmup_method: "linear" or "constant".

    Returns:
        A function of the fraction of training that is done, [0, 1].

    Raises:
        ValueError: ``warmup_iters`` is negative or not below ``max_iter``, which is below 1.
    """
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")
    _check_warmup(warmup_iters, max_iter)
    poly = PolynomialDecayParamScheduler(base_value=1.0, power=power)
    if warmup_iters == 0:
        return poly
    length = warmup_iters if warmup_iters < 1 else warmup_iters / max_iter
    return WarmupParamScheduler(poly, warmup_factor, length, warmup_method)


def _check_warmup(warmup_iters: float, max_iter: int) -> None:
    if warmup_iters < 0:
        raise ValueError(f"warmup_iters must be 0 or more, got {warmup_iters}")
    if warmup_iters >= max_iter:
        raise ValueError(
            f"lr_multiplier.warmup_iters (SOLVER.WARMUP_ITERS in a .yaml) must be below the "
            f"{max_iter} iterations of the training, got {warmup_iters}, with which the rate would "
            "stay near 0: name fewer, or in a .py their share, such as 0.05"
        )


def detectron2_schedule(
    *, name: str, base_lr: float, max_iter: int, warmup_iters: int, **solver: Any
) -> ParamScheduler:
    """A schedule of Detectron2's own.

    Args:
        name: as ``SOLVER.LR_SCHEDULER_NAME``.
        base_lr: learning rate that the factors are of.
        max_iter: iterations of the whole training.
        warmup_iters: iterations of warm-up.
        solver: more keys of ``SOLVER``, in small letters, such as ``steps`` and ``gamma``.

    Raises:
        ValueError: Detectron2 has no such schedule, or the warm-up is as long as the training.
    """
    _check_warmup(warmup_iters, max_iter)
    keys = {key.upper(): value for key, value in solver.items()}
    keys |= {"LR_SCHEDULER_NAME": name, "BASE_LR": base_lr, "MAX_ITER": max_iter}
    cfg = yacs_config({"SOLVER": {**keys, "WARMUP_ITERS": warmup_iters}})
    # It wants an optimiser to drive; the factors are all that is wanted here.
    unused = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base_lr)
    return build_lr_scheduler(cfg, unused)._multiplier


def scale_config(cfg: CfgNode | DictConfig, world_size: int) -> DictConfig:
    """A config for another batch than it was made for, by the linear rule.

    With a batch k times as large the learning rate is k times as high, and iterations, of warm-up
    too, and those between two evaluations or checkpoints are k times as few
    (https://arxiv.org/abs/1706.02677). Both ways are off by default:

    - ``train.reference_batch_size`` is the batch that rate and iterations are for,
      ``train.batch_size`` the one to train with.
    - ``train.reference_world_size`` (``SOLVER.REFERENCE_WORLD_SIZE``), as everywhere in Detectron2,
      is the number of processes that ``train.batch_size`` is for; each keeps its share.

    Args:
        cfg: of either kind; it is not changed.
        world_size: number of processes that train.

    Raises:
        ValueError: a reference that is no batch or does not divide it, two of them, or a recipe
            without ``optimizer.lr``.
    """
    cfg = to_lazy_config(cfg)
    batch = TrainSettings.from_config(cfg).batch_size
    reference = OmegaConf.select(cfg, "train.reference_batch_size", default=0)
    if not isinstance(reference, int) or reference < 0:
        raise ValueError(
            f"train.reference_batch_size must be 0 or a number of images, got {reference!r}"
        )
    processes = OmegaConf.select(cfg, "train.reference_world_size", default=0)
    if not isinstance(processes, int) or processes < 0 or (processes and batch % processes):
        raise ValueError(
            "train.reference_world_size must be 0 or a divisor of train.batch_size "
            f"({batch}), got {processes!r}"
        )
    if reference and processes:
        raise ValueError(
            "train must have reference_batch_size or reference_world_size, not both, "
            f"got {reference} and {processes}"
        )
    if processes not in (0, world_size):
        cfg = copy.deepcopy(cfg)
        cfg.train.update(
            batch_size=batch // processes * world_size, reference_world_size=world_size
        )
        return _scale_by_batch(cfg, world_size / processes)
    if reference not in (0, batch):
        cfg = copy.deepcopy(cfg)
        cfg.train.reference_batch_size = batch
        return _scale_by_batch(cfg, batch / reference)
    return cfg


def _scale_by_batch(cfg: DictConfig, scale: float) -> DictConfig:
    if OmegaConf.select(cfg, "optimizer.lr") is None:
        raise ValueError("a batch to scale by needs optimizer.lr, which the config lacks")
    for key in (*_RATES, *_COUNTS):
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent)
        # What refers to another key follows it.
        if node is None or not node.get(name) or OmegaConf.is_interpolation(node, name):
            continue
        if key in _RATES:
            node[name] = node[name] * scale
        elif isinstance(node[name], float):  # a share, which stays
            continue
        elif isinstance(node[name], ListConfig):
            node[name] = [round(step / scale) for step in node[name]]
        else:
            node[name] = max(1, round(node[name] / scale))
    _logger.info(
        f"Scaled to batches of {cfg.train.batch_size}: rate {cfg.optimizer.lr:g}, "
        f"{cfg.train.max_iter} iterations"
    )
    return cfg


def build_optimizer(cfg: CfgNode | DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a config, with gradient clipping where it is enabled."""
    cfg = to_lazy_config(cfg)
    # A copy, because a config that holds a model cannot be saved any more.
    optimizer_cfg = copy.deepcopy(cfg.optimizer)
    optimizer_cfg.params.model = model
    return maybe_add_gradient_clipping(_clipping_config(cfg), instantiate(optimizer_cfg))


def _clipping_config(cfg: DictConfig) -> CfgNode:
    clipping = OmegaConf.select(cfg, "train.clip_gradients", default=None) or {}
    node = get_cfg()
    for key, value in clipping.items():
        if key.upper() not in node.SOLVER.CLIP_GRADIENTS:
            allowed = sorted(name.lower() for name in node.SOLVER.CLIP_GRADIENTS)
            raise ValueError(f"train.clip_gradients has no key {key!r}, only {allowed}")
        node.SOLVER.CLIP_GRADIENTS[key.upper()] = value
    return node


def build_scheduler(cfg: CfgNode | DictConfig, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The learning rate schedule of a config, stepped every iteration."""
    cfg = to_lazy_config(cfg)
    return LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)
