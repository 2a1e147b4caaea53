"""The door of the engine: a yacs config becomes the LazyConfig of the same run."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.modeling import META_ARCH_REGISTRY
from omegaconf import DictConfig, OmegaConf

from ..config import add_ifa_config
from ..data import PanopticInstanceMapper, PanopticMapper, SemSegMapper
from ..data.bands import BANDS
from ..modeling import FieldSegmentor
from .loader import build_train_loader

_CHANNELS = 3  # of pictures as they are read
# Of SOLVER, what schedules are made of.
_SCHEDULE = (
    *("WARMUP_ITERS", "WARMUP_FACTOR", "WARMUP_METHOD", "RESCALE_INTERVAL"),
    *("STEPS", "GAMMA", "NUM_DECAYS", "BASE_LR_END"),
)
# Nodes of yacs keys that are all translated: from them, nothing is made.
_TRANSLATED = ("SOLVER", "DATASETS", "DATALOADER", "TEST")
# As Detectron2 calls those of a TrainingStream.
_SAMPLER, _REPEATING = "TrainingSampler", "RepeatFactorTrainingSampler"
# What a key below "train" of a LazyConfig is called in a yacs config.
TRAIN_KEYS = {
    "output_dir": "OUTPUT_DIR",
    "init_checkpoint": "MODEL.WEIGHTS",
    "partial_checkpoint": "MODEL.PARTIAL_WEIGHTS",
    "max_iter": "SOLVER.MAX_ITER",
    "batch_size": "SOLVER.IMS_PER_BATCH",
    "reference_world_size": "SOLVER.REFERENCE_WORLD_SIZE",
    "seed": "SEED",
    "deterministic": "SOLVER.DETERMINISTIC",
    "device": "MODEL.DEVICE",
    "amp.enabled": "SOLVER.AMP.ENABLED",
    "amp.dtype": "SOLVER.AMP.DTYPE",
    "accumulation_steps": "SOLVER.ACCUMULATION_STEPS",
    "activation_checkpointing": "SOLVER.ACTIVATION_CHECKPOINTING",
    "ema.decay": "SOLVER.EMA_DECAY",
    "early_stopping.patience": "SOLVER.EARLY_STOPPING_PATIENCE",
    "ddp.find_unused_parameters": "SOLVER.DDP.FIND_UNUSED_PARAMETERS",
    "ddp.fp16_compression": "SOLVER.DDP.FP16_COMPRESSION",
    "checkpointer.period": "SOLVER.CHECKPOINT_PERIOD",
    "checkpointer.max_to_keep": "SOLVER.CHECKPOINTS_TO_KEEP",
    "eval_period": "TEST.EVAL_PERIOD",
    "log_period": "SOLVER.LOG_PERIOD",
    "precise_bn_iters": "TEST.PRECISE_BN.NUM_ITER",
    "cudnn_benchmark": "CUDNN_BENCHMARK",
    "expected_results": "TEST.EXPECTED_RESULTS",
}


def to_lazy_config(cfg: CfgNode | DictConfig) -> DictConfig:
    """The LazyConfig of the run that a config of either kind describes.

    That of a yacs config has the tree of ``configs/common``, and all the keys that it was made of
    in ``yacs``: model and mappers are made from those, as Detectron2 makes them.

    Args:
        cfg: a LazyConfig, which is returned as it is; or a yacs config, with the keys of
            :func:`ifa_d2.add_ifa_config` or without.

    Raises:
        ValueError: another type, or an optimizer or a meta-architecture that is not known.
    """
    if isinstance(cfg, DictConfig):
        return cfg
    if not isinstance(cfg, CfgNode):
        raise ValueError(f"cfg must be a CfgNode or a DictConfig, got {type(cfg).__name__}")
    tree = _plain(cfg)
    cfg = yacs_config(tree)  # with the keys that it lacks
    return OmegaConf.create(
        {
            "model": _model(cfg),
            "dataloader": {
                "train": _train_loader(cfg),
                "test": _test_loader(cfg),
                "evaluator": _evaluator(cfg),
            },
            "optimizer": _optimizer(cfg),
            "lr_multiplier": _schedule(cfg),
            "train": _train(cfg),
            "inference": _inference(cfg),
            "yacs": tree,
        },
        flags={"allow_objects": True},
    )


def translation(key: str) -> str:
    """Find a yacs key's name in the LazyConfig; empty if it is a model's or a mapper's own."""
    for name, yacs in TRAIN_KEYS.items():
        if key == yacs:
            return f"train.{name}"
    return "a key of its own" if key.split(".")[0] in _TRANSLATED else ""


def yacs_config(tree: Mapping[str, Any]) -> CfgNode:
    """A yacs config of its keys, nested; those that are not there have their defaults."""
    cfg = get_cfg()
    add_ifa_config(cfg)
    _fill(cfg, OmegaConf.to_container(tree) if isinstance(tree, DictConfig) else tree)
    return cfg


def model_config(tree: Mapping[str, Any], *, pretrained: bool = True) -> CfgNode:
    """The yacs config that a model is made of.

    Args:
        tree: as of :func:`yacs_config`.
        pretrained: let a backbone of timm fetch the weights that its training starts from.

    Raises:
        ValueError: the model is for pictures of other than three channels, which are not of bands;
            or is of bands and no ``FieldSegmentor``.
    """
    cfg = yacs_config(tree)
    if cfg.INPUT.FORMAT == BANDS:
        if cfg.MODEL.META_ARCHITECTURE != FieldSegmentor.__name__:
            raise ValueError(
                f"MODEL.META_ARCHITECTURE must be FieldSegmentor with INPUT.FORMAT {BANDS}, got "
                f"{cfg.MODEL.META_ARCHITECTURE}: other models know no pixels without data"
            )
    elif len(cfg.MODEL.PIXEL_MEAN) != _CHANNELS:
        raise ValueError(
            f"the length of MODEL.PIXEL_MEAN must be {_CHANNELS}, as pictures are read in colours, "
            f"got {len(cfg.MODEL.PIXEL_MEAN)}: INPUT.FORMAT {BANDS} reads other bands"
        )
    if not pretrained:
        cfg.MODEL.TIMM.update(PRETRAINED=False, WEIGHTS_FILE="")
    return cfg


def training_records(names: Sequence[str], *, filter_empty: bool, sampler: str) -> list[dict]:
    """The records of data sets to train on, in their order.

    Args:
        names: of the data sets.
        filter_empty: leave out pictures without instances.
        sampler: by Detectron2's name, one of those that a :class:`TrainingStream` has.

    Raises:
        ValueError: another sampler.
    """
    if sampler not in (_SAMPLER, _REPEATING):
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN must be {_SAMPLER!r} or {_REPEATING!r}, whose order a "
            f"resumed run can enter, got {sampler!r}"
        )
    return get_detection_dataset_dicts(list(names), filter_empty=filter_empty)


def _plain(node: Any) -> Any:
    """Nodes and tuples of a yacs config as dicts and lists, which a file can hold."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list | tuple) else node


def _fill(node: CfgNode, tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        default = node.get(key)
        if isinstance(value, dict) and isinstance(default, CfgNode):
            _fill(default, value)
        elif isinstance(value, dict):
            node[key] = CfgNode(value)
        else:
            node[key] = _tuples(value, default)


def _tuples(value: Any, default: Any) -> Any:
    """A value whose lists are tuples where the default has them."""
    if not (isinstance(value, list) and isinstance(default, tuple)):
        return value
    return tuple(_tuples(one, default[0] if default else None) for one in value)


def _model(cfg: CfgNode) -> DictConfig:
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        raise ValueError(
            f"MODEL.META_ARCHITECTURE must be registered with Detectron2, got {name!r}"
        )
    made_of = L(model_config)(tree="${yacs}", pretrained=True)
    return L(META_ARCH_REGISTRY.get(name))(cfg=made_of)


def _mapper(cfg: CfgNode, *, is_train: bool) -> DictConfig:
    """The mapper: one of Detectron2's kind where instance masks are learned too."""
    target: type = SemSegMapper
    if cfg.MODEL.MASK_ON:
        target = PanopticInstanceMapper if cfg.INPUT.MASK_FORMAT == "bitmask" else PanopticMapper
    return L(target)(cfg=L(yacs_config)(tree="${yacs}"), is_train=is_train)


def _train_loader(cfg: CfgNode) -> DictConfig:
    # Pictures without instances teach semantic labels as well as others.
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and cfg.MODEL.MASK_ON
    repeats = cfg.DATALOADER.SAMPLER_TRAIN == _REPEATING
    return L(build_train_loader)(
        dataset=L(training_records)(
            names=list(cfg.DATASETS.TRAIN),
            filter_empty=filter_empty,
            sampler=cfg.DATALOADER.SAMPLER_TRAIN,
        ),
        mapper=_mapper(cfg, is_train=True),
        total_batch_size="${train.batch_size}",
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed="${train.seed}",
        repeat_threshold=cfg.DATALOADER.REPEAT_THRESHOLD if repeats else 0.0,
    )


def _test_loader(cfg: CfgNode) -> DictConfig:
    return L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names=list(cfg.DATASETS.TEST), filter_empty=False),
        mapper=_mapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def _evaluator(cfg: CfgNode) -> DictConfig | dict[str, DictConfig]:
    """That of the data set; with several, each writes to a folder of its data set's name."""
    # By name, as what it is of imports this module.
    evaluators = L("ifa_d2.engine.build.build_data_set_evaluators")
    names = list(cfg.DATASETS.TEST)
    if len(names) == 1:
        return evaluators(dataset_name=names[0], output_dir="${train.output_dir}")
    return {
        name: evaluators(dataset_name=name, output_dir=f"${{train.output_dir}}/{name}")
        for name in names
    }


def _optimizer(cfg: CfgNode) -> DictConfig:
    solver = cfg.SOLVER
    options: dict[str, Any] = {}
    if solver.OPTIMIZER == "SGD":
        target = torch.optim.SGD
        options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    elif solver.OPTIMIZER == "AdamW":
        target = torch.optim.AdamW
    else:
        raise ValueError(f"SOLVER.OPTIMIZER must be SGD or AdamW, got {solver.OPTIMIZER!r}")
    return L(target)(
        params=L("ifa_d2.engine.solver.get_optimizer_params")(
            base_lr="${..lr}",
            head_lr_factor=solver.HEAD_LR_FACTOR,
            layer_decay=solver.LAYER_DECAY,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
        ),
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        **options,
    )


def _schedule(cfg: CfgNode) -> DictConfig:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return L("ifa_d2.engine.solver.detectron2_schedule")(
            name=solver.LR_SCHEDULER_NAME,
            base_lr="${optimizer.lr}",
            max_iter="${train.max_iter}",
            **{key.lower(): _plain(solver[key]) for key in _SCHEDULE},
        )
    return L("ifa_d2.engine.solver.poly_schedule")(
        max_iter="${train.max_iter}",
        power=solver.POLY_LR_POWER,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_method=solver.WARMUP_METHOD,
    )


def _train(cfg: CfgNode) -> DictConfig:
    train = OmegaConf.create()
    for key, name in TRAIN_KEYS.items():
        OmegaConf.update(train, key, _plain(reduce(getattr, name.split("."), cfg)))
    if not cfg.TEST.PRECISE_BN.ENABLED:
        train.precise_bn_iters = 0
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    train.clip_gradients = {key.lower(): value for key, value in clipping.items()}
    return train


def _inference(cfg: CfgNode) -> dict[str, Any]:
    aug, sliding = cfg.TEST.AUG, cfg.TEST.SLIDING_WINDOW
    sizes = (
        {"scales": _plain(aug.SCALES)}
        if aug.SCALES
        else {"short_edges": _plain(aug.MIN_SIZES), "max_size": aug.MAX_SIZE}
    )
    return {
        "tta": aug.ENABLED,
        **sizes,
        "flip": aug.FLIP,
        "window": _plain(sliding.SIZE) or None,
        "stride": _plain(sliding.STRIDE),
        "blend": sliding.BLEND,
        "batch_size": sliding.BATCH_SIZE,
    }
