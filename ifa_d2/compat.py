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


@contextmanager
def stand_in(name: str, **contents: Any) -> Iterator[None]:
    """Let a module be imported that is not there, or another in place of one, within a block.

    Args:
        name: of the module, with its packages, which need not be there.
        contents: what it holds.
    """
    before = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = module = ModuleType(name)
    vars(module).update(contents)
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)


def _import(module: str, needed: str, **contents: Any) -> ModuleType:
    """Import a module of Detectron2, also where another that it needs is not installed.

    Args:
        module: by its name within Detectron2.
        needed: the other, whole name.
        contents: all that is needed of it.
    """
    package = needed.partition(".")[0]
    there = sys.modules.get(package) is not None or find_spec(package) is not None
    with nullcontext() if there else stand_in(needed, **contents):
        return importlib.import_module(f"detectron2.{module}")


def _segment_ids(picture: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) of a panoptic label picture (H, W, 3) uint8 RGB."""
    return picture.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


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
    # Setuptools 82 dropped it, and environments of Python 3.12 may have no setuptools at all.
    model_zoo = _import("model_zoo", "pkg_resources", resource_filename=_resource_filename)
    for _module in ("modeling", "projects.deeplab"):
        importlib.import_module(f"detectron2.{_module}")
    # Of COCO, on no registry but in a copy that refuses NumPy 2.
    _import("projects.panoptic_deeplab", "panopticapi.utils", rgb2id=_segment_ids)
    _evaluation = importlib.import_module("detectron2.evaluation")
_evaluation.SemSegEvaluator.__init__.__kwdefaults__["sem_seg_loading_fn"] = _read_label
