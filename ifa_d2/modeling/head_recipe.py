"""Changes of a head's LazyConfig that touch several of its parts."""

from inspect import signature
from typing import Any

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from ..config import called_by
from .alignments import DENSE_ALIGNMENTS

# Alignments that interpolate levels, without any position: what makes the field do so.
INTERPOLATIONS = {"bilinear": True, "nearest": False}
# Of the position of a query: nothing that interpolation has.
ENCODING = (
    *("encoding", "num_frequencies", "frequency_law", "coupled_frequencies"),
    *("integrated_encoding", "cell_decoding"),
)
# Of the pointwise decoder: a decoder on a grid has neither.
OF_POINTWISE = ("ensemble_outputs", "feature_slopes")
# What a dense alignment is told of the levels.
_OF_LEVELS = ("in_channels", "strides", "norm")


def use_alignment(head: DictConfig, alignment: str, **options: Any) -> None:
    """Let a head interpolate its levels, or align them on one grid (paper, Table 1).

    Args:
        head: LazyConfig of an :class:`IFASemSegHead` without such a method; changed in place.
        alignment: ``"bilinear"`` or ``"nearest"``, which interpolate levels without any position,
            or one of :data:`~ifa_d2.modeling.alignments.DENSE_ALIGNMENTS`, which bring them to the
            finest feature's grid, between whose cells the field interpolates.
        options: of a dense alignment.

    Raises:
        ValueError: an unknown alignment, options that it does not have, or levels that it cannot
            take.
    """
    dense = DENSE_ALIGNMENTS.get(alignment)
    if dense is None and alignment not in INTERPOLATIONS:
        raise ValueError(
            f"alignment must be one of {(*INTERPOLATIONS, *DENSE_ALIGNMENTS)}, got {alignment!r}"
        )
    if dense is None and options:
        raise ValueError(f"alignment {alignment!r} has no options, got {options}")
    decoder = head.levels.get("grid_decoder")
    node = head.alignment if decoder is None else decoder.align
    for key in (*ENCODING, *OF_POINTWISE):
        node.pop(key, None)
    node.encoding = "none"
    node.local_ensemble = INTERPOLATIONS.get(alignment, True)
    if dense is not None:
        known = [key for key in signature(dense).parameters if key not in _OF_LEVELS]
        if unknown := [key for key in options if key not in known]:
            raise ValueError(
                f"options of alignment {alignment!r} must be of {known}, got {unknown}"
            )
        names = level_features(head.levels)
        head.levels.dense_alignment = L(dense)(
            in_channels=[],
            strides=[head.levels.input_shape[name].stride for name in names],
            norm="${..norm}",
            **options,
        )
    fit_channels(head)


def fit_channels(head: DictConfig) -> None:
    """Give each part of a head as many input channels as the parts before it make.

    Args:
        head: LazyConfig of an :class:`IFASemSegHead`, changed in place.

    Raises:
        ValueError: a dense alignment of features that become more than one level each, or a part
            that is none.
    """
    if OmegaConf.is_missing(head, "num_classes"):
        head.num_classes = 1  # the widths are the same for any
        try:
            fit_channels(head)
        finally:
            head.num_classes = MISSING
        return
    levels = head.levels
    for name in ("dense_alignment", "grid_decoder"):
        if (node := levels.get(name)) is not None and "_target_" not in node:
            raise ValueError(
                f"levels.{name} must say what it calls (_target_), as what use_alignment makes "
                f"does, got {dict(node)}"
            )
    parts = {name: levels.pop(name, None) for name in ("dense_alignment", "grid_decoder")}
    dense, decoder = parts.values()
    with torch.device("meta"):
        made = list(instantiate(levels).level_channels)
        if dense is not None:
            names = level_features(levels)
            if len(made) != len(names):
                raise ValueError(
                    f"a dense alignment needs one level of each of the features {names}, "
                    f"but their projections make levels of {made} channels"
                )
            levels.dense_alignment = dense
            dense = levels.dense_alignment
            takes_coarsest = called_by(dense).takes_coarsest
            coarsest = [levels.input_shape[names[-1]].channels] if takes_coarsest else []
            _set_channels(dense, [*made, *coarsest])
            made = [instantiate(dense).out_channels]
        if decoder is not None:
            levels.grid_decoder = decoder
            _set_channels(levels.grid_decoder.align, made)
            made = list(instantiate(levels).level_channels)
    _set_channels(head.alignment, made)


def level_features(levels: DictConfig) -> list[str]:
    """Return the features that become levels, finest first, of a :class:`FeatureLevels`' node."""
    shapes = levels.input_shape
    return list(levels.get("in_features") or sorted(shapes, key=lambda name: shapes[name].stride))


def _set_channels(node: DictConfig, channels: list[int]) -> None:
    """Set ``in_channels``; what follows another key and is right already, still does."""
    if list(node.in_channels) != channels:
        node.in_channels = channels
