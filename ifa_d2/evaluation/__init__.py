"""Evaluators: metrics of a data set, and its predictions as files."""

from .. import compat  # noqa: F401 (before Detectron2)
from .label_tiff import write_label_tiff
from .panoptic_quality import PanopticEvaluator
from .prediction_writer import PredictionWriter
from .report import per_class_table
from .sem_seg import SemSegEvaluator

__all__ = [
    "PanopticEvaluator",
    "PredictionWriter",
    "SemSegEvaluator",
    "per_class_table",
    "write_label_tiff",
]
