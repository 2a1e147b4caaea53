"""Metrics of label maps, in NumPy and OpenCV: nothing here knows torch or Detectron2."""

from .confusion import Figures, confusion_figures, count_pairs, mean_of_known, union_figures
from .segmentation import SegmentationMetrics

__all__ = [
    "Figures",
    "SegmentationMetrics",
    "confusion_figures",
    "count_pairs",
    "mean_of_known",
    "union_figures",
]
