"""Learned methods that bring levels to one grid (paper, Table 1), by name."""

from .alignseg import AlignSeg
from .carafe import Carafe
from .deconvolution import Deconvolution
from .dense_alignment import DenseAlignment
from .methods import ALIGNMENTS, build_dense_alignment, field_options
from .sapa import Sapa
from .upsampling import Upsampling

__all__ = [
    "ALIGNMENTS",
    "AlignSeg",
    "Carafe",
    "Deconvolution",
    "DenseAlignment",
    "Sapa",
    "Upsampling",
    "build_dense_alignment",
    "field_options",
]
