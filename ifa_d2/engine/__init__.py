"""Training, prediction and export."""

from .. import compat  # noqa: F401 (before Detectron2)
from .loader import TrainingStream, build_train_loader
from .predictor import Predictor
from .solver import get_optimizer_params, poly_schedule
from .trainer import Trainer

__all__ = [
    "Predictor",
    "Trainer",
    "TrainingStream",
    "build_train_loader",
    "get_optimizer_params",
    "poly_schedule",
]
