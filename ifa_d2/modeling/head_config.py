"""Parts of a head, chosen by names and numbers.

A head is made of parts (:class:`IFASemSegHead`). Where all of it is said by names and numbers, the
keys of ``MODEL.IFA``, :func:`head_config` chooses the parts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig, OmegaConf

from ..config import HEAD_OPTIONS
from ..data.points import PointSampler
from ..layers import ImplicitAlignment
from .alignments import DENSE_ALIGNMENTS
from .auxiliary import AuxiliaryHead
from .feature_levels import FeatureLevels
from .grid_decoder import AlignedLevels, ConvDecoder, ObjectContextDecoder
from .head_recipe import ENCODING, INTERPOLATIONS, OF_POINTWISE, fit_channels, use_alignment
from .losses import OhemCrossEntropy
from .projection import (
    ASPPProjection,
    DeepLabASPP,
    IdentityProjection,
    PyramidPooling,
)
from .targets import GridTargets, JitteredGridTargets, PointTargets, UncertainPointTargets
from .unit import norm_factory

ALIGNMENTS = ("ifa", *INTERPOLATIONS, *DENSE_ALIGNMENTS)
PROJECTIONS = ("pointwise", "identity", "aspp", "pyramid_pooling")
DECODERS = ("pointwise", "conv", "ocr")
TARGETS = {
    "grid": GridTargets,
    "jittered_grid": JitteredGridTargets,
    "points": PointTargets,
    "uncertain_points": UncertainPointTargets,
}
# Options of a head, with their defaults.
OPTIONS: dict[str, Any] = {
    **HEAD_OPTIONS,
    "in_features": ("res2", "res3", "res4", "res5"),
    "channels": 256,
    "norm": "BN",
    "alignment_options": {},
    "ignore_value": 255,
    "loss_weight": 1.0,
}
# Where the options are in the LazyConfig of a head of parts.
PLACES = {
    "input_shape": "levels.input_shape",
    "in_features": "levels.in_features",
    "channels": "levels.channels",
    "norm": "levels.norm",
    **dict.fromkeys(
        ("projections", "aspp_dilations", "aspp_dropout", "aspp_fuse_channels", "pool_sizes"),
        "levels.projections",
    ),
    "decoder": "levels.grid_decoder",
    "alignment": "levels.dense_alignment, alignment.encoding and alignment.local_ensemble "
    "(ifa_d2.modeling.use_alignment sets them)",
    "alignment_options": "levels.dense_alignment",
    **{
        key: f"alignment.{key}"
        for key in (*ENCODING, *OF_POINTWISE, "hidden_dims", "unfold", "local_ensemble")
    },
    "targets": "targets._target_ (ifa_d2.modeling.PointTargets and others)",
    "target_spacings": "targets.spacings",
    "oversample_ratio": "targets.oversample_ratio",
    **dict.fromkeys(
        ("num_points", "point_sampling", "importance_ratio", "boundary_width", "point_balance"),
        "targets.sampler",
    ),
    "ohem_threshold": "criterion.threshold",
    "ohem_min_kept": "criterion.min_kept",
    "class_weights": "criterion.class_weights",
    "label_smoothing": "criterion.label_smoothing",
    "ignore_value": "criterion.ignore_value",
    "aux_feature": "aux_heads.0.feature",
    "aux_channels": "aux_heads.0.channels",
}
_KNOWN = {*OPTIONS, "input_shape", "num_classes"}


def yacs_options(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """Return the options of the head that a yacs config describes."""
    head, ifa = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.IFA
    return {
        "input_shape": input_shape,
        "num_classes": head.NUM_CLASSES,
        "in_features": head.IN_FEATURES,
        "channels": ifa.LEVEL_CHANNELS or head.CONVS_DIM,
        "norm": head.NORM,
        "ignore_value": head.IGNORE_VALUE,
        "loss_weight": head.LOSS_WEIGHT,
        **{key.lower(): value for key, value in ifa.items() if key != "LEVEL_CHANNELS"},
        "alignment_options": {k.lower(): v for k, v in ifa.ALIGNMENT_OPTIONS.items()},
    }


def head_config(options: Mapping[str, Any], *, strict: bool = True) -> DictConfig:
    """Choose the parts of a head.

    Args:
        options: ``input_shape`` and ``num_classes``, and those of :data:`OPTIONS` that are not as
            they are there. ``alignment`` is one of :data:`ALIGNMENTS`, ``decoder`` of
            :data:`DECODERS`, ``targets`` of :data:`TARGETS`, ``projections`` of
            :data:`PROJECTIONS`, one for all features or one for each.
        strict: refuse options that none of the parts has.

    Returns:
        The keyword arguments of :class:`IFASemSegHead`.

    Raises:
        ValueError: an unknown option or name; where it is ``strict``, also an option
            that none of the parts has.
    """
    given = _Options(options)
    input_shape = options["input_shape"]
    if not given.values["in_features"]:
        raise ValueError(f"in_features must name one or more of {sorted(input_shape)}, got none")
    names = sorted(given.take("in_features"), key=lambda name: _shape(input_shape, name).stride)
    config = OmegaConf.create(
        {
            "num_classes": options["num_classes"],
            "levels": _levels(given, input_shape, names),
            "alignment": None,  # of the levels, but before the others: parts are drawn in turn
            "targets": _targets(given),
            "criterion": L(OhemCrossEntropy)(
                threshold=given.take("ohem_threshold"),
                min_kept=given.take("ohem_min_kept"),
                ignore_value=given.take("ignore_value"),
                **given.changed(("class_weights", "label_smoothing")),
            ),
            "aux_heads": _aux_heads(given, input_shape),
            "loss_weight": given.take("loss_weight"),
        },
        flags={"allow_objects": True},
    )
    _add_alignment(config, given)
    if config.aux_heads or given.values["decoder"] == "ocr":
        config.aux_loss_weight = given.take("aux_loss_weight")
    if strict:
        given.check_all_taken()
    return config


def upgrade_head(head: DictConfig) -> None:
    """Give a head's LazyConfig, whose options lie side by side, parts.

    Recipes and the ``config.yaml`` of runs were so before heads were made of parts.

    Args:
        head: LazyConfig of an :class:`IFASemSegHead`, changed in place; one of parts is left as it
            is.

    Raises:
        ValueError: options beside parts.
    """
    flat = [key for key in head if key in PLACES and not OmegaConf.is_dict(head[key])]
    if "levels" not in head and "input_shape" in head:
        options = {"aux_feature": "res4", **OmegaConf.to_container(head, resolve=True)}
        options["input_shape"] = {n: instantiate(s) for n, s in head.input_shape.items()}
        others = {key: options.pop(key) for key in list(options) if key not in _KNOWN}
        # Options that nothing had were ignored then.
        parts = head_config(options, strict=False)
        for key in list(head):
            head.pop(key)
        head.update({**parts, **others})
    elif flat:
        moved = "; ".join(f"{key} is {PLACES[key]}" for key in flat)
        raise ValueError(
            f"model.sem_seg_head has no {', '.join(flat)}: it is made of parts, "
            f"and below model.sem_seg_head {moved}"
        )


class _Options:
    """Options and their defaults; notes which of them a part has taken."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        given = {k: v for k, v in options.items() if k not in ("input_shape", "num_classes")}
        if unknown := sorted(given.keys() - OPTIONS.keys()):
            raise ValueError(f"options of a head must be of {sorted(OPTIONS)}, got {unknown}")
        self.values = {**OPTIONS, **given}
        self._left = {k for k, v in given.items() if _plain(v) != _plain(OPTIONS[k])}

    def take(self, name: str) -> Any:
        self._left.discard(name)
        return self.values[name]

    def choose(self, name: str, known: Collection[str]) -> str:
        """Take a name, or raise a ValueError that names the known ones."""
        if (value := self.take(name)) not in known:
            raise ValueError(f"{name} must be one of {tuple(known)}, got {value!r}")
        return value

    def changed(self, names: Iterable[str]) -> dict[str, Any]:
        """Take options, and return those that are not as their defaults."""
        return {name: self.take(name) for name in names if name in self._left}

    def check_all_taken(self) -> None:
        if self._left:
            left, defaults = (
                {name: _plain(values[name]) for name in sorted(self._left)}
                for values in (self.values, OPTIONS)
            )
            parts = {k: self.values[k] for k in ("alignment", "decoder", "targets", "projections")}
            raise ValueError(
                f"{left} would be ignored: nothing of a head with {parts} has them; leave them at "
                f"{defaults}"
            )


def _levels(
    given: _Options, input_shape: Mapping[str, ShapeSpec], in_features: Sequence[str]
) -> DictConfig:
    """Levels, before any grid decoder: see :class:`FeatureLevels`."""
    order = list(given.values["in_features"])
    channels, norm = given.take("channels"), given.take("norm")
    widths = dict(zip(order, _spread("channels", channels, order), strict=True))
    kinds = dict(zip(order, _spread("projections", given.take("projections"), order), strict=True))
    if unknown := sorted(set(kinds.values()) - set(PROJECTIONS)):
        raise ValueError(f"projections must be of {PROJECTIONS}, got {unknown}")
    dilations = _plain(given.values["aspp_dilations"])
    coarsest = in_features[-1]
    if dilations and kinds[coarsest] == "pointwise" and "aspp" not in kinds.values():
        kinds[coarsest] = "ifa_aspp"
    own = {}
    for name in in_features:
        sides = {"in_channels": _shape(input_shape, name).channels, "out_channels": widths[name]}
        if kinds[name] == "identity":
            own[name] = L(IdentityProjection)(in_channels=sides["in_channels"])
        elif kinds[name] == "pyramid_pooling":
            pool_sizes = _plain(given.take("pool_sizes"))
            own[name] = L(PyramidPooling)(**sides, pool_sizes=pool_sizes, norm=norm)
        elif kinds[name] == "aspp":
            own[name] = L(DeepLabASPP)(**sides, norm=norm, dropout=given.take("aspp_dropout"))
        elif kinds[name] == "ifa_aspp":
            own[name] = L(ASPPProjection)(
                **sides,
                norm=norm,
                dropout=given.take("aspp_dropout"),
                fuse_channels=given.take("aspp_fuse_channels") or None,
            )
        if "aspp" in kinds[name] and given.take("aspp_dilations"):
            own[name].dilations = dilations
    shapes = {
        name: L(ShapeSpec)(channels=shape.channels, stride=shape.stride)
        for name, shape in input_shape.items()
    }
    return L(FeatureLevels)(
        input_shape=shapes,
        in_features=in_features,
        channels=[widths[name] for name in in_features],
        norm=norm,
        projections=own,
    )


def _add_alignment(config: DictConfig, given: _Options) -> None:
    """Add the field, and a grid decoder before it."""
    levels, decoder = config.levels, given.choose("decoder", DECODERS)
    alignment = given.choose("alignment", ALIGNMENTS)
    hidden_dims = _plain(given.take("hidden_dims"))
    if any(size < 1 for size in hidden_dims):
        raise ValueError(f"hidden_dims must be positive sizes, got {hidden_dims}")
    if decoder != "pointwise" and not hidden_dims:
        raise ValueError(
            f"hidden_dims must be one or more sizes for decoder {decoder!r}, got {hidden_dims}"
        )
    names = ["unfold"]
    if alignment == "ifa":
        names += [*ENCODING, "local_ensemble"]
        names += OF_POINTWISE if decoder == "pointwise" else []
    elif given.values["local_ensemble"] == INTERPOLATIONS.get(alignment, True):
        names.append("local_ensemble")
    options = given.changed(names)
    field = L(ImplicitAlignment)(
        in_channels=[],
        num_classes="${..num_classes}",
        hidden_dims=hidden_dims,
        norm=L(norm_factory)(name="${...levels.norm}"),
    )
    if decoder == "pointwise":
        field.update(options)
    else:
        align = L(AlignedLevels)(in_channels=[], **options)
        field.update(encoding="none", local_ensemble=True)
        if decoder == "conv":
            levels.grid_decoder = L(ConvDecoder)(
                align=align, dims=hidden_dims[:-1], norm="${..norm}"
            )
            field.update(hidden_dims=hidden_dims[-1:], unfold=True)
        else:
            levels.grid_decoder = L(ObjectContextDecoder)(
                align=align,
                num_classes="${...num_classes}",
                channels=hidden_dims[0],
                norm="${..norm}",
            )
    config.alignment = field
    if alignment == "ifa":
        fit_channels(config)
        return
    dense_options = given.take("alignment_options") if alignment in DENSE_ALIGNMENTS else None
    use_alignment(config, alignment, **(dense_options or {}))


def _targets(given: _Options) -> DictConfig:
    name = given.choose("targets", tuple(TARGETS))
    target = L(TARGETS[name])()
    if name == "jittered_grid":
        target.spacings = _plain(given.take("target_spacings"))
    if "points" in name:
        target.sampler = L(PointSampler)(
            num_points=given.take("num_points"), ignore_value=given.values["ignore_value"]
        )
    if name == "points":
        target.sampler.update(
            sampling=given.take("point_sampling"),
            importance_ratio=given.take("importance_ratio"),
            boundary_width=given.take("boundary_width"),
            balance=given.take("point_balance"),
        )
    elif name == "uncertain_points":
        for option in ("importance_ratio", "oversample_ratio"):
            target[option] = given.take(option)
    return target


def _aux_heads(given: _Options, input_shape: Mapping[str, ShapeSpec]) -> list[DictConfig]:
    if not (name := given.take("aux_feature")):
        return []
    head = L(AuxiliaryHead)(
        feature=name,
        in_channels=_shape(input_shape, name).channels,
        channels=given.take("aux_channels"),
        num_classes="${...num_classes}",
        norm="${...levels.norm}",
    )
    return [head]


def _shape(input_shape: Mapping[str, ShapeSpec], name: str) -> ShapeSpec:
    if name not in input_shape:
        raise ValueError(f"features must be of {sorted(input_shape)}, got {name!r}")
    return input_shape[name]


def _spread(name: str, values: Any, in_features: Sequence[str]) -> list:
    """Spread one value, or one for each feature, to all features."""
    values = [values] if isinstance(values, str | int) else list(values)
    if len(values) not in (1, len(in_features)):
        raise ValueError(
            f"{name} must be one, or one for each of in_features {list(in_features)}, got {values}"
        )
    return values * len(in_features) if len(values) == 1 else values


def _plain(value: Any) -> Any:
    """Lists for tuples and other sequences, nothing for None."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
