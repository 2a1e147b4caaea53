"""Implicit Feature Alignment (ECCV 2022) for Detectron2.

``ifa_d2.layers`` and ``ifa_d2.fields`` need torch alone, ``ifa_d2.metrics`` NumPy and OpenCV.
Importing ``ifa_d2.data`` registers the built-in data sets, importing ``ifa_d2.modeling`` the
models, as with Detectron2's own packages; whatever reads a config imports both. The names below
import what they need when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOMES = {"Predictor": "engine", "add_ifa_config": "config", "get_config": "config"}
_PARTS = (
    *("config", "data", "layers", "fields", "modeling", "metrics", "evaluation"),
    *("visualization", "engine"),
)
__all__ = ["Predictor", "__version__", "add_ifa_config", "data", "get_config", "modeling"]


def __getattr__(name: str) -> Any:
    """Import a part, or what a public name stands for (PEP 562)."""
    if name in _PARTS:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        for part in ("data", "modeling"):  # which register what configs name
            import_module(f".{part}", __name__)
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PARTS})
