"""The work of the commands, a module for each script of ``tools/``."""

from .. import compat  # noqa: F401 (before Detectron2)
