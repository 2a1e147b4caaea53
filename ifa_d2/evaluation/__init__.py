"""Evaluators."""

from .sem_seg import SemSegEvaluator, per_class_table

__all__ = ["SemSegEvaluator", "per_class_table"]
