"""Variants of compare_alignments.py: a method and its changes, joined by "+".

``ifa+integrated+stride2`` is IFA whose encoding is averaged over samples, with a level of the
backbone's features at stride 2. Every name is a function that changes a recipe in place.
"""

from collections.abc import Callable

from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig

from ifa_d2.modeling import (
    DetailBackbone,
    IdentityProjection,
    level_features,
    use_alignment,
)

DETAIL_CHANNELS = 16


METHODS = ("probe", "bilinear", "upsampling", "ifa")


def _make_probe(head: DictConfig) -> None:
    """Linear classifier of the features, interpolated bilinearly."""
    levels = head.levels
    names = level_features(levels)
    levels.channels = [levels.input_shape[name].channels for name in names]
    levels.projections = {
        name: L(IdentityProjection)(in_channels=f"${{...input_shape.{name}.channels}}")
        for name in names
    }
    head.alignment.hidden_dims = []
    use_alignment(head, "bilinear")


def _field(**options: object) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.model.sem_seg_head.alignment.update(options)

    return change


def _points(sampling: str, balance: float = 1.0) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.dataloader.train.mapper.update(point_sampling=sampling, point_balance=balance)

    return change


def _stride2(cfg: DictConfig) -> None:
    """Add the backbone's features of stride 2 as a level."""
    backbone, levels = cfg.model.backbone, cfg.model.sem_seg_head.levels
    backbone = backbone.get("bottom_up", backbone)
    channels = {"tf_efficientnet_lite0": 16}[backbone.model_name]
    backbone.out_features = ["res1", "res2", "res3", "res4", "res5"]
    backbone.out_indices = [0, 1, 2, 3, 4]
    _add_level(levels, "res1", ShapeSpec(channels=channels, stride=2), levels.channels[0])


def _stride16(cfg: DictConfig) -> None:
    """Leave out the levels finer than stride 16, as most vision transformers have none."""
    levels = cfg.model.sem_seg_head.levels
    names = level_features(levels)
    coarse = [name for name in names if levels.input_shape[name].stride >= 16]
    levels.channels = [levels.channels[names.index(name)] for name in coarse]
    levels.in_features = coarse


def _detail(cfg: DictConfig) -> None:
    """Add two convolutions of the picture as a level of stride 1."""
    norm = cfg.model.backbone.get("norm", "BN")
    for name in ("pixel_mean", "pixel_std"):  # which may look at the backbone's name
        cfg.model[name] = instantiate(cfg.model[name])
    cfg.model.backbone = L(DetailBackbone)(
        bottom_up=cfg.model.backbone, channels=DETAIL_CHANNELS, norm=norm
    )
    cfg.optimizer.params.backbone_prefix = "backbone.bottom_up."
    levels = cfg.model.sem_seg_head.levels
    _add_level(levels, "detail", ShapeSpec(channels=DETAIL_CHANNELS, stride=1), DETAIL_CHANNELS)
    projection = L(IdentityProjection)(in_channels=DETAIL_CHANNELS)
    levels.projections = {**levels.get("projections", {}), "detail": projection}


def _add_level(levels: DictConfig, name: str, shape: ShapeSpec, channels: int) -> None:
    """Add a feature, the finest one, as a level."""
    levels.in_features = [name, *level_features(levels)]
    levels.channels = [channels, *levels.channels]
    levels.input_shape[name] = L(ShapeSpec)(channels=shape.channels, stride=shape.stride)


def _longer(factor: int) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.train.max_iter *= factor

    return change


CHANGES: dict[str, Callable[[DictConfig], None]] = {
    "integrated": _field(integrated_encoding=True),
    "cell": _field(cell_decoding=True),
    "outputs": _field(ensemble_outputs=True),
    "slopes": _field(feature_slopes=True),
    "nearest": _field(local_ensemble=False),
    "offsets": _field(encoding="coord"),
    "stride2": _stride2,
    "stride16": _stride16,
    "detail": _detail,
    "narrow": _field(hidden_dims=[128]),
    "unfold": _field(unfold=True),
    "uniform": _points("uniform"),
    "boundary": _points("boundary"),
    "balanced": _points("class_balanced"),
    "balanced_boundary": _points("balanced_boundary"),
    "tempered": _points("class_balanced", 0.5),
    "tempered_boundary": _points("balanced_boundary", 0.5),
    "long": _longer(2),
    "longer": _longer(4),
}


def apply_variant(cfg: DictConfig, name: str) -> None:
    """Change a recipe to a variant.

    Args:
        cfg: with a ``TimmBackbone`` and an ``IFASemSegHead``; changed in place.
        name: a method, then changes, joined by "+".

    Raises:
        ValueError: an unknown name.
    """
    method, *changes = name.split("+")
    if method not in METHODS:
        raise ValueError(f"a variant must begin with one of {list(METHODS)}, got {name!r}")
    head = cfg.model.sem_seg_head
    if method == "ifa":
        head.alignment.local_ensemble = True
    for change in changes:
        if change not in CHANGES:
            raise ValueError(f"changes must be of {list(CHANGES)}, got {change!r} in {name!r}")
        CHANGES[change](cfg)
    if method == "probe":
        _make_probe(head)
    elif method != "ifa":
        use_alignment(head, method)
