"""Detectron2 on current releases of what it needs."""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_NAME = "pkg_resources"


def _import_model_zoo() -> ModuleType:
    """``detectron2.model_zoo``, also where setuptools no longer has ``pkg_resources``.

    Setuptools 82 dropped it, and environments of Python 3.12 may have no setuptools at all.
    Detectron2 asks it for the path of a file of its own package; what stands in for it does that,
    and is gone when the import is done.
    """
    if _NAME in sys.modules or find_spec(_NAME) is not None:
        return importlib.import_module("detectron2.model_zoo")
    standin = ModuleType(_NAME)
    standin.resource_filename = _resource_filename
    sys.modules[_NAME] = standin
    try:
        return importlib.import_module("detectron2.model_zoo")
    finally:
        del sys.modules[_NAME]


def _resource_filename(package: str, resource: str) -> str:
    """The path of a package's file, whether it is there or not."""
    return str(Path(importlib.import_module(package).__path__[0], resource))


model_zoo = _import_model_zoo()
