"""Implicit Feature Alignment (ECCV 2022) for Detectron2."""

import warnings
from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ImportError(
        "ifa_d2 needs Detectron2: run `make setup` in the ifa_d2 repository for a pinned one, or "
        "`python -m pip install 'git+https://github.com/facebookresearch/detectron2.git'`."
    )

# What Detectron2 and its libraries use is deprecated in newer torch and setuptools; a user can do
# nothing about it.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".torch.jit.* is deprecated")
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    from . import data, modeling
    from .config import add_ifa_config, get_config
    from .engine import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "add_ifa_config", "data", "get_config", "modeling"]
