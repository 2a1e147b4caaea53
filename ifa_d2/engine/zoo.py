"""Trained models that come with the package, as addresses of Detectron2's PathManager.

``ifa_d2://camvid/ifa_lite0`` is the file of weights that belongs to the recipe
``camvid/ifa_lite0.py``. It can stand wherever a checkpoint is named.
"""

from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager

PREFIX = "ifa_d2://"


def zoo_names() -> list[str]:
    """The names of the models, such as ``"camvid/ifa_lite0"``, sorted."""
    root = _root()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.pth"))


def zoo_file(name: str) -> Path:
    """The file of weights of a model.

    Raises:
        ValueError: no such model; the message has those that there are.
    """
    path = _root() / f"{name}.pth"
    if name not in zoo_names():
        raise ValueError(f"the zoo has {', '.join(zoo_names()) or 'no model'}, got {name!r}")
    return path


def _root() -> Path:
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "zoo"
    return checkout if checkout.is_dir() else package / "zoo"


class ZooHandler(PathHandler):
    """Resolves ``ifa_d2://NAME`` to the file of :func:`zoo_file`."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return str(zoo_file(path.removeprefix(PREFIX)))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, buffering, **kwargs)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return path.removeprefix(PREFIX) in zoo_names()

    _exists = _isfile


PathManager.register_handler(ZooHandler())
