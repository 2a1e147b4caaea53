"""Learned methods that bring levels to one grid (paper, Table 1), by name."""

from .alignseg import AlignSeg
from .carafe import Carafe
from .deconvolution import Deconvolution
from .dense_alignment import DenseAlignment
from .sapa import Sapa
from .upsampling import Upsampling

DENSE_ALIGNMENTS: dict[str, type[DenseAlignment]] = {
    "deconvolution": Deconvolution,
    "upsampling": Upsampling,
    "carafe": Carafe,
    "alignseg": AlignSeg,
    "sapa": Sapa,
}

__all__ = [
    "DENSE_ALIGNMENTS",
    "AlignSeg",
    "Carafe",
    "Deconvolution",
    "DenseAlignment",
    "Sapa",
    "Upsampling",
]
