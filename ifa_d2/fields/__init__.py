"""Fields: one picture's levels, decoded at any resolution, window or point.

Nothing here knows Detectron2: any network's features and an ``ImplicitAlignment`` make a field.
"""

from .decision import best_classes, class_entropy, class_probabilities, label_dtype
from .field import SegmentationField
from .query_checks import Size, Window, check_eval
from .refinement import Refinement, refined_labels

__all__ = [
    "Refinement",
    "SegmentationField",
    "Size",
    "Window",
    "best_classes",
    "check_eval",
    "class_entropy",
    "class_probabilities",
    "label_dtype",
    "refined_labels",
]
