#!/usr/bin/env python
"""Writer of the tables of docs/CONFIG.md, from signatures, docstrings and configs/common.

    python docs/generate_config.py

Before each table a comment says what it is of: ``keys: NODE CALLABLE``, the keys of a node, which
are arguments of what it calls; ``options: CALLABLE ...``, the arguments that each of several has by
itself; ``source: NAME ...``, code as it is; ``train:`` and ``head:``, names of yacs keys. The text
around the tables is written by hand and stays.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docstring_parser
from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from omegaconf import MISSING, OmegaConf

from ifa_d2.config import HEAD_OPTIONS
from ifa_d2.engine.yacs_config import TRAIN_KEYS
from ifa_d2.files import atomic_path
from ifa_d2.modeling.head_config import PLACES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "CONFIG.md"
_MARK = re.compile(r"(<!-- (\w+): ?(.*?) -->\n)\n*(?:(?:\|.*\n)+|```python\n(?s:.*?)```\n)?\n*")
_ROLE = re.compile(r":\w+:`[~.]*([^`]+)`")
_SEE = re.compile(r"(?:see|of) :(?:class|func):`~?([\w.]+)`(?:\.|;.*)?$")
# Nodes of a recipe, and arguments that are no keys: the trainer gives them.
_NODES = ("dataloader", "model", "optimizer", "lr_multiplier", "train", "inference")
_GIVEN = {"model", "fields"}


def load_common() -> dict[str, Any]:
    """The nodes of configs/common, as of a recipe that takes them as they are."""
    recipe: dict[str, Any] = {}
    for name in ("data/sem_seg", "optim", "train", "inference", "models/ifa_r18"):
        cfg = LazyConfig.load(str(ROOT / "configs" / "common" / f"{name}.py"))
        recipe |= OmegaConf.to_container(cfg, resolve=False)
    return {name: recipe[name] for name in _NODES}


COMMON = load_common()


def common_node(key: str) -> Any:
    """What configs/common have under a dotted key; None if nothing."""
    node: Any = COMMON
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def parameters(target: Callable) -> dict[str, Any]:
    """Names and defaults of its arguments, those that it hands on to its base class among them."""
    found = inspect.signature(target).parameters.values()
    hands_on = any(one.kind is one.VAR_KEYWORD for one in found)
    inherited = parameters(target.__mro__[1]) if hands_on and inspect.isclass(target) else {}
    return inherited | {one.name: one.default for one in found if one.kind is not one.VAR_KEYWORD}


def meanings(target: Callable) -> dict[str, str]:
    """What the docstrings say of its arguments or attributes, in Markdown."""
    texts = [target.__doc__]
    if inspect.isclass(target):
        texts = [text for base in target.__mro__ for text in (base.__doc__, base.__init__.__doc__)]
    found: dict[str, str] = {}
    for text in filter(None, texts):
        for entry in docstring_parser.parse(text).params:
            for name in entry.arg_name.split(","):
                found.setdefault(name.strip(), _meaning(target, name.strip(), entry.description))
    return found


def _meaning(target: Callable, name: str, text: str) -> str:
    text = " ".join(text.split())
    if see := _SEE.match(text):
        other = locate(see[1] if "." in see[1] else f"{target.__module__}.{see[1]}")
        return meanings(other)[name]
    text = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text.replace("``", "`"))
    return text[0].upper() + text[1:].rstrip(".").replace("|", "\\|") + "."


def written(value: Any) -> str:
    """A default as the page has it, lists as tuples."""
    if value in (MISSING, inspect.Parameter.empty):
        return "required"
    if isinstance(value, dict) and "_target_" in value:
        value = value["_target_"]
        value = locate(value) if isinstance(value, str) else value
    if callable(value):
        return f"`{value.__name__}`"
    if isinstance(value, float) and value == 2 / 3:
        return "`2 / 3`"
    value = tuple(value) if isinstance(value, list) else value
    return f'`"{value}"`' if isinstance(value, str) else f"`{value!r}`"


def _keys(node: str, target: str) -> Iterator[tuple[str, ...]]:
    """Rows of the keys of a node, which a callable takes."""
    yield "key", "default", "meaning"
    called = locate(target)
    said, set_there = meanings(called), common_node(node) or {}
    for name, default in parameters(called).items():
        if name in _GIVEN:
            continue
        if name in set_there and not node.startswith("model"):
            default = set_there[name]
        if name not in said:
            raise SystemExit(f"{target} says nothing of its argument {name}: write its Args")
        yield f"`{node}.{name}`", written(default), said[name]


def _options(*targets: str) -> Iterator[tuple[str, ...]]:
    """Rows of what each of several callables takes by itself, beyond what all of them take."""
    yield "name", "option", "default", "meaning"
    called = [locate(target) for target in targets]
    shared = set.intersection(*(set(parameters(one)) for one in called))
    for one in called:
        said = meanings(one)
        for name, default in parameters(one).items():
            if name not in shared:
                yield f"`{one.__name__}`", f"`{name}`", written(default), said[name]


def _train() -> Iterator[tuple[str, ...]]:
    """Rows of the yacs keys that are keys of ``train``."""
    yield "yacs key", "key"
    for key, name in TRAIN_KEYS.items():
        yield f"`{name}`", f"`train.{key}`"


def _head() -> Iterator[tuple[str, ...]]:
    """Rows of the yacs keys that choose the parts of a head."""
    yield "yacs key", "default", "what it sets of `model.sem_seg_head`"
    for name, default in HEAD_OPTIONS.items():
        place = re.sub(r"[\w.]*[._]\w+", lambda found: f"`{found[0]}`", PLACES.get(name, name))
        yield f"`MODEL.IFA.{name.upper()}`", written(default), place


def _source(*names: str) -> str:
    """Code of a file, or of functions, as it is."""
    files = [name for name in names if "/" in name]
    blocks = [(ROOT / name).read_text(encoding="utf-8") for name in files]
    blocks += [inspect.getsource(locate(name)) for name in names if name not in files]
    return "```python\n" + "\n\n".join(blocks) + "```\n"


_ROWS = {"keys": _keys, "options": _options, "train": _train, "head": _head}


def render(text: str) -> str:
    """The page with its tables and its code made anew."""

    def table(mark: re.Match) -> str:
        kind, names = mark[2], mark[3].split()
        if kind == "source":
            return f"{mark[1]}\n{_source(*names)}\n"
        head, *rows = _ROWS[kind](*names)
        lines = [head, ("---",) * len(head), *rows]
        rows = [f"| {' | '.join(cells)} |\n" for cells in lines]
        return f"{mark[1]}\n{''.join(rows)}\n"

    return _MARK.sub(table, text).rstrip("\n") + "\n"


def main() -> None:
    """Write the page."""
    text = render(PAGE.read_text(encoding="utf-8"))
    with atomic_path(PAGE) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
