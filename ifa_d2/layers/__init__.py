"""Tensor code of implicit feature alignment; nothing here knows Detectron2."""

from .alignment import ImplicitAlignment
from .bound import BoundAlignment
from .levels import Level, PointwiseLevel
from .mlp import fold_norm, is_foldable
from .position import ENCODINGS, FREQUENCY_LAWS, PositionEncoding
from .queries import (
    GridAxis,
    GridQuery,
    GridSubset,
    PointQuery,
    Query,
    Taps,
    check_coordinates,
    coordinate_taps,
)
from .textbook import concatenate_levels, textbook_alignment
from .traceable import TraceableDecoder

__all__ = [
    "ENCODINGS",
    "FREQUENCY_LAWS",
    "BoundAlignment",
    "GridAxis",
    "GridQuery",
    "GridSubset",
    "ImplicitAlignment",
    "Level",
    "PointQuery",
    "PointwiseLevel",
    "PositionEncoding",
    "Query",
    "Taps",
    "TraceableDecoder",
    "check_coordinates",
    "concatenate_levels",
    "coordinate_taps",
    "fold_norm",
    "is_foldable",
    "textbook_alignment",
]
