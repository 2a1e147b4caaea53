"""Costs of models: multiply-adds, times, memory."""

from .. import compat  # noqa: F401 (before Detectron2)
