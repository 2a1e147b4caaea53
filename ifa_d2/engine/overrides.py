"""Changes of a config from the command line: "key=value", checked before they are made."""

import difflib
import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode, LazyConfig
from detectron2.utils.registry import locate
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..config import called_by
from ..modeling.head_config import PLACES
from .inference import INFERENCE_KEYS
from .settings import TRAIN_KEYS, leaf_keys
from .yacs_config import translation

# Of a recipe's nodes that call nothing: what is read of them, there or not.
_READ = {f"train.{key}" for key in TRAIN_KEYS} | {f"inference.{key}" for key in INFERENCE_KEYS}


def apply_yacs_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Change a yacs config.

    Args:
        cfg: it is changed.
        overrides: "KEY=value" each, or as Detectron2 has them "KEY", "value", in turn.

    Raises:
        ValueError: as :func:`apply_overrides`.
    """
    pairs = _split_pairs(overrides)
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _merge(cfg, key, value)


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Change a LazyConfig.

    Args:
        cfg: it is changed.
        overrides: "key=value" each.

    Raises:
        ValueError: an override that cannot be read, or of a key that does not exist; the message
            names those most like it.
    """
    # What is called says which arguments there are: other keys may be of what it was, or will be.
    targets = [override for override in overrides if "._target_=" in override]
    others = [override for override in overrides if override not in targets]
    for override in targets:
        _check_override(cfg, override)
        _check_target(override)
    new = [override for override in others if _refusal(cfg, override)]
    _apply(cfg, targets)
    for override in new:
        _check_override(cfg, override)
    _apply(cfg, others)


def _apply(cfg: DictConfig, overrides: list[str]) -> None:
    try:
        LazyConfig.apply_overrides(cfg, overrides)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"overrides {overrides} cannot be read: {reason}") from error


def _split_pairs(overrides: Sequence[str]) -> list[str]:
    if all("=" in override for override in overrides):
        return [part for override in overrides for part in override.split("=", 1)]
    if len(overrides) % 2:
        raise ValueError(f"overrides must be KEY=value each, got {list(overrides)}")
    return list(overrides)


def _merge(cfg: CfgNode, key: str, value: str) -> None:
    *parents, last = key.split(".")
    node: Any = cfg
    for part in parents:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if isinstance(node, CfgNode) and node.is_new_allowed():
        node[last] = yaml.safe_load(value)
        return
    try:
        cfg.merge_from_list([key, value])
    except AssertionError as error:
        raise ValueError(f"the config has no key {key!r}{_hint(key, leaf_keys(cfg))}") from error


def _check_target(override: str) -> None:
    name = override.split("=", 1)[1]
    try:
        locate(name)
    except Exception as error:  # whatever an import raises
        raise ValueError(f"{override!r}: {name} cannot be imported") from error


def _check_override(cfg: DictConfig, override: str) -> None:
    if reason := _refusal(cfg, override):
        raise ValueError(reason)


def _refusal(cfg: DictConfig, override: str) -> str:
    """Why not: "" if the key exists, is read, or is an argument of what its parent calls."""
    key = override.split("=", 1)[0]
    if "=" not in override:
        return f"overrides must be key=value each, got {override!r}"
    if key in _READ:
        return ""
    if key.startswith("yacs.") and (name := translation(key.removeprefix("yacs."))):
        return f"nothing reads {key} any more: it has become {name}"
    node: Any = cfg
    parts = key.split(".")
    value = override.split("=", 1)[1]
    for i, part in enumerate(parts):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        known = list(node) if isinstance(node, DictConfig) else []
        if part in known:
            node = None if OmegaConf.is_missing(node, part) else node[part]
            continue
        arguments = _arguments(node)
        if part in arguments:
            return ""
        read = {name.split(".")[i] for name in _READ if name.split(".")[:i] == parts[:i]}
        head, _, option = key.rpartition(".")
        if head == "model.sem_seg_head" and option in PLACES:
            return f"the config has no key {key!r}: below {head} it is {PLACES[option]}"
        hint = _hint(part, {*known, *arguments, *read})
        return f"the config has no key {key!r}: {part!r} is not there{hint}"
    if isinstance(node, DictConfig) and "_target_" in node and re.fullmatch(r"[\w.-]+", value):
        if value not in ("null", "None"):
            keys = ", ".join(sorted({"_target_", *_arguments(node)}))
            hint = PLACES.get(key.removeprefix("model.sem_seg_head."), "")
            hint = f"; such a name is {hint} now" if hint else ""
            refusal = f"{key} is made of parts, and cannot be {value!r}: set a key below it, of"
            return f"{refusal} {keys}{hint}"
    return ""


def _arguments(node: Any) -> list[str]:
    """Names of the arguments of what a node calls; none if it calls nothing."""
    target = called_by(node)
    return [] if target is None else list(inspect.signature(target).parameters)


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
