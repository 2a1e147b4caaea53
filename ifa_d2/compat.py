"""Detectron2 on current releases of what it needs.

Each part of the package that needs Detectron2 imports this module before it.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

if find_spec("detectron2") is None:
    raise ImportError(
        "ifa_d2 needs Detectron2: run `make setup` in the ifa_d2 repository for a pinned one, or "
        "`python -m pip install 'git+https://github.com/facebookresearch/detectron2.git'`. "
        "Without it there are ifa_d2.layers, ifa_d2.fields and ifa_d2.metrics."
    )
_NAME = "pkg_resources"


@contextmanager
def stand_in(name: str, **contents: Any) -> Iterator[None]:
    """Let a module be imported that is not there, or another in place of one, within a block.

    Args:
        name: of the module, with its packages, which need not be there.
        contents: what it holds.
    """
    before = sys.modules.get(name)
    sys.modules[name] = module = ModuleType(name)
    vars(module).update(contents)
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def _import_model_zoo() -> ModuleType:
    """``detectron2.model_zoo``, also where setuptools no longer has ``pkg_resources``.

    Setuptools 82 dropped it, and environments of Python 3.12 may have no setuptools at all.
    Detectron2 asks it for the path of a file of its own package.
    """
    there = _NAME in sys.modules or find_spec(_NAME) is not None
    with nullcontext() if there else stand_in(_NAME, resource_filename=_resource_filename):
        return importlib.import_module("detectron2.model_zoo")


def _read_label(path: str, copy: bool = True, dtype: Any = None) -> np.ndarray:
    """A label picture as Detectron2's ``SemSegEvaluator`` reads it.

    Its own reader asks for an array that is no copy, which NumPy 2 refuses.
    """
    from detectron2.utils.file_io import PathManager

    with PathManager.open(path, "rb") as file:
        return np.array(Image.open(file), dtype=dtype)


def _resource_filename(package: str, resource: str) -> str:
    """The path of a package's file, whether it is there or not."""
    return str(Path(importlib.import_module(package).__path__[0], resource))


# What Detectron2 and its libraries use is deprecated in newer torch and setuptools; a user can do
# nothing about it.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".torch.jit.* is deprecated")
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    model_zoo = _import_model_zoo()
    for _module in ("modeling", "projects.deeplab"):
        importlib.import_module(f"detectron2.{_module}")
    _evaluation = importlib.import_module("detectron2.evaluation")
_evaluation.SemSegEvaluator.__init__.__kwdefaults__["sem_seg_loading_fn"] = _read_label
