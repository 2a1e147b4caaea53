"""A run's config as a file: written, read again, and compared with another."""

import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, LazyConfig
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from ..data.catalog import registering_file, remember_registering_file
from ..files import atomic_path
from .yacs_config import to_lazy_config, yacs_config

_logger = logging.getLogger(__name__)

# A line in front of a saved config, for a data set that a file of the user's own registers.
_REGISTERED = "# data set {name} is registered by {file}"
_REGISTERED_LINE = re.compile(r"^# data set (\S+) is registered by (.+)$", re.MULTILINE)


class NamesLoader(yaml.SafeLoader):
    """Reads the classes and functions that a saved LazyConfig names, and calls nothing."""

    def construct_name(self, name: str, node: yaml.Node) -> Any:
        return locate(name)


NamesLoader.add_multi_constructor("tag:yaml.org,2002:python/name:", NamesLoader.construct_name)


def config_text(cfg: CfgNode | DictConfig, dataset_names: list[str]) -> str:
    """A config as YAML, which :func:`ifa_d2.engine.run.load_config` reads.

    Args:
        cfg: of either kind; what is written is the LazyConfig.
        dataset_names: the data sets that it names; files that register them are named in comments.

    Raises:
        ValueError: a value that no file can hold, such as a lambda.
    """
    files = {name: registering_file(name) for name in dataset_names}
    lines = [_REGISTERED.format(name=name, file=file) for name, file in files.items() if file]
    return "".join(f"{line}\n" for line in lines) + _dump(to_lazy_config(cfg))


def _dump(cfg: DictConfig) -> str:
    for key, value in _leaves(OmegaConf.to_container(cfg), ""):
        if callable(value) and not _can_be_named(value):
            raise ValueError(
                f"{key} is {value!r}, which a config file cannot hold, nor a resumed run read "
                "again: define it in a module that can be imported"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        LazyConfig.save(cfg, str(path))
        if not path.is_file() or len(list(path.parent.iterdir())) > 1:  # it falls back to a pickle
            raise ValueError("the config holds a value that a config file cannot hold")
        return path.read_text(encoding="utf-8")


def _can_be_named(value: Any) -> bool:
    try:
        return locate(f"{value.__module__}.{value.__qualname__}") is not None
    except (AttributeError, ImportError):
        return False


def write_config(path: str, text: str) -> None:
    """Write a text of :func:`config_text`, by the main process, complete or not at all."""
    if not comm.is_main_process():
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    _logger.info(f"Config written to {path}")


def note_registering_files(text: str) -> None:
    """Remember, for errors, which files register the data sets that a saved config names."""
    for name, file in _REGISTERED_LINE.findall(text):
        remember_registering_file(name, file)


def changed_settings(old: str, new: str) -> list[str]:
    """The settings in which two texts of :func:`config_text` differ, ``key: old -> new``.

    The old one may be of a yacs config, as runs once saved them.
    """
    if "MODEL" in (content := yaml.load(old, NamesLoader) or {}):
        old = _dump(to_lazy_config(yacs_config(content)))
    before, after = (dict(_leaves(yaml.load(text, NamesLoader) or {}, "")) for text in (old, new))

    def text(values: dict[str, Any], key: str) -> str:
        return repr(values[key]) if key in values else "(not set)"

    pairs = ((key, text(before, key), text(after, key)) for key in {**before, **after})
    return [f"{key}: {one} -> {other}" for key, one, other in pairs if one != other]


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Values in dicts and lists, by dotted keys; a list of plain values is one."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list) and any(isinstance(value, dict | list) for value in node):
        items = enumerate(node)
    else:
        yield key, node
        return
    for name, value in items:
        yield from _leaves(value, f"{key}.{name}" if key else str(name))
