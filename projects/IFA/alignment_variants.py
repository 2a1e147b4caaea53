"""Variants of compare_alignments.py: a method and its changes, joined by "+".

``ifa+integrated+stride2`` is IFA whose encoding is averaged over samples, with a level of the
backbone's features at stride 2. Every name is a function that changes a recipe in place.
"""

from collections.abc import Callable

from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig

from ifa_d2.modeling import DetailBackbone

DETAIL_CHANNELS = 16


def _probe(cfg: DictConfig) -> None:
    """Linear classifier of the features, interpolated bilinearly."""
    cfg.model.sem_seg_head.update(alignment="bilinear", projections=["identity"], hidden_dims=[])


def _bilinear(cfg: DictConfig) -> None:
    cfg.model.sem_seg_head.alignment = "bilinear"


def _upsampling(cfg: DictConfig) -> None:
    cfg.model.sem_seg_head.alignment = "upsampling"


def _ifa(cfg: DictConfig) -> None:
    cfg.model.sem_seg_head.update(alignment="ifa", local_ensemble=True)


METHODS: dict[str, Callable[[DictConfig], None]] = {
    "probe": _probe,
    "bilinear": _bilinear,
    "upsampling": _upsampling,
    "ifa": _ifa,
}


def _head(**options: object) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.model.sem_seg_head.update(options)

    return change


def _points(sampling: str, balance: float = 1.0) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.dataloader.train.mapper.update(point_sampling=sampling, point_balance=balance)

    return change


def _stride2(cfg: DictConfig) -> None:
    """Add the backbone's features of stride 2 as a level."""
    backbone, head = cfg.model.backbone, cfg.model.sem_seg_head
    backbone = backbone.get("bottom_up", backbone)
    channels = {"tf_efficientnet_lite0": 16}[backbone.model_name]
    backbone.out_features = ["res1", "res2", "res3", "res4", "res5"]
    backbone.out_indices = [0, 1, 2, 3, 4]
    head.input_shape["res1"] = L(ShapeSpec)(channels=channels, stride=2)
    _add_level(head, "res1", "pointwise")


def _detail(cfg: DictConfig) -> None:
    """Add two convolutions of the picture as a level of stride 1."""
    norm = cfg.model.backbone.get("norm", "BN")
    for name in ("pixel_mean", "pixel_std"):  # which may look at the backbone's name
        cfg.model[name] = instantiate(cfg.model[name])
    cfg.model.backbone = L(DetailBackbone)(
        bottom_up=cfg.model.backbone, channels=DETAIL_CHANNELS, norm=norm
    )
    cfg.optimizer.params.backbone_prefix = "backbone.bottom_up."
    head = cfg.model.sem_seg_head
    head.input_shape["detail"] = L(ShapeSpec)(channels=DETAIL_CHANNELS, stride=1)
    _add_level(head, "detail", "identity")


def _add_level(head: DictConfig, name: str, projection: str) -> None:
    names = list(head.get("in_features") or ("res2", "res3", "res4", "res5"))
    kinds = list(head.get("projections") or ("pointwise",))
    kinds = kinds * len(names) if len(kinds) == 1 else kinds
    head.in_features = [name, *names]
    head.projections = [projection if kinds[0] != "identity" else "identity", *kinds]


def _longer(factor: int) -> Callable[[DictConfig], None]:
    def change(cfg: DictConfig) -> None:
        cfg.train.max_iter *= factor

    return change


CHANGES: dict[str, Callable[[DictConfig], None]] = {
    "integrated": _head(integrated_encoding=True),
    "cell": _head(cell_decoding=True),
    "outputs": _head(ensemble_outputs=True),
    "nearest": _head(local_ensemble=False),
    "offsets": _head(encoding="coord"),
    "stride2": _stride2,
    "detail": _detail,
    "narrow": _head(hidden_dims=[128]),
    "unfold": _head(unfold=True),
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
    METHODS[method](cfg)
    for change in changes:
        if change not in CHANGES:
            raise ValueError(f"changes must be of {list(CHANGES)}, got {change!r} in {name!r}")
        CHANGES[change](cfg)
