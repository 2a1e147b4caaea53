"""The ways to bring levels together, by name (paper, Table 1)."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from .alignseg import AlignSeg
from .carafe import Carafe
from .deconvolution import Deconvolution
from .dense_alignment import DenseAlignment
from .sapa import Sapa
from .upsampling import Upsampling

# Those that the query itself is answered by: what makes the implicit alignment do so.
_FIELD_OPTIONS: dict[str, dict[str, Any]] = {
    "ifa": {},
    "bilinear": {"encoding": "none", "local_ensemble": True},
    "nearest": {"encoding": "none", "local_ensemble": False},
}
# Those that bring levels to one grid before.
_DENSE: dict[str, type[DenseAlignment]] = {
    "deconvolution": Deconvolution,
    "upsampling": Upsampling,
    "carafe": Carafe,
    "alignseg": AlignSeg,
    "sapa": Sapa,
}
ALIGNMENTS = (*_FIELD_OPTIONS, *_DENSE)


def field_options(alignment: str) -> dict[str, Any]:
    """The options of ``ImplicitAlignment`` that a method fixes.

    After a dense method it interpolates between the aligned cells, so that on their grid it
    takes them as they are.

    Raises:
        ValueError: an unknown method.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment must be one of {ALIGNMENTS}, got {alignment!r}")
    return dict(_FIELD_OPTIONS["bilinear" if alignment in _DENSE else alignment])


def build_dense_alignment(
    alignment: str,
    *,
    level_channels: Sequence[Sequence[int]],
    strides: Sequence[int],
    coarsest_channels: int,
    norm: str,
    options: Mapping[str, Any],
) -> DenseAlignment | None:
    """The dense method of this name; None for the others.

    Args:
        alignment: one of :data:`ALIGNMENTS`.
        level_channels: of the levels that each feature becomes, finest feature first.
        strides: of the features.
        coarsest_channels: of the coarsest feature.
        norm: see :class:`DenseAlignment`.
        options: the method's own.

    Raises:
        ValueError: an unknown method or option, an option out of range, or a feature that becomes
            more than one level where a dense method needs one.
    """
    method = _DENSE.get(alignment)
    known = list(inspect.signature(method).parameters) if method else []
    known = [key for key in known if key not in ("in_channels", "strides", "norm")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(
            f"alignment_options must be of {known} for alignment {alignment!r}, got {unknown}"
        )
    if method is None:
        return None
    if any(len(channels) != 1 for channels in level_channels):
        raise ValueError(
            f"alignment {alignment!r} needs one level of each feature, but their projections "
            f"make levels of {list(map(tuple, level_channels))} channels"
        )
    in_channels = [channels[0] for channels in level_channels]
    if method.takes_coarsest:
        in_channels.append(coarsest_channels)
    return method(in_channels=in_channels, strides=strides, norm=norm, **options)
