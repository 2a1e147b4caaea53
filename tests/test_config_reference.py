"""docs/CONFIG.md against the configs and the signatures that it describes."""

import ast
import dataclasses
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import locate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.data import SemSegMapper
from ifa_d2.engine.arguments import training_parser
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.modeling import (
    DiceLoss,
    FieldSegmentor,
    FocalLoss,
    JitteredGridTargets,
    LabelledPixels,
    LovaszSoftmaxLoss,
    MultiViewSegmentor,
    PointTargets,
    Refinement,
    TimmBackbone,
    UncertainPointTargets,
    WeightedSum,
)
from ifa_d2.modeling.alignments import DENSE_ALIGNMENTS, DenseAlignment
from ifa_d2.modeling.head_config import head_config, yacs_options

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")
NONE = "\N{EN DASH}"
# What takes the keys of a node where configs/common does not say so, by table.
TARGETS = {
    "": {"model": FieldSegmentor, "model.refinement": Refinement, "inference": MultiViewSegmentor},
    "timm: `TimmBackbone`": {"model.backbone": TimmBackbone},
    **{
        f"Targets: `{targets.__name__}`": {"model.sem_seg_head.targets": targets}
        for targets in (JitteredGridTargets, PointTargets, UncertainPointTargets)
    },
    **{
        f"Loss: `{loss.__name__}`": {"model.sem_seg_head.criterion": loss}
        for loss in (FocalLoss, DiceLoss, LovaszSoftmaxLoss, WeightedSum, LabelledPixels)
    },
}
# Arguments that are no keys: the trainer, or the run, gives them.
GIVEN = {"optimizer.params.model", "inference.model", "inference.fields"}
# A row that stands for all keys below it.
WHOLE = ("dataloader.test.mapper", "model.sem_seg_head.levels.input_shape")


@dataclass(frozen=True)
class Row:
    table: str
    lazy: str
    yacs: str
    default: str

    def stated(self, *, yacs: bool) -> str:
        """The default as :func:`written` writes it."""
        text = self.default.rpartition("; yacs ")[2 if yacs else 0] or self.default
        if text == "required":
            return text
        assert re.fullmatch("`[^`]+`", text), f"{self.lazy} {self.yacs}: default {self.default}"
        literal = re.sub(r"(\d+) / (\d+)", _quotient, text.strip("`"))
        try:
            return written(ast.literal_eval(literal))
        except ValueError:
            return literal  # a class or function


def _quotient(match: re.Match) -> str:
    return repr(int(match[1]) / int(match[2]))


def _lines(first_column: str) -> Iterator[tuple[str, list[str]]]:
    """Headings and cells of the rows of the tables that begin with a column."""
    heading, column = "", ""
    for line in TEXT.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 4 and all(cells), line
        if cells[1:] in (["yacs key", "default", "meaning"], ["option", "default", "meaning"]):
            column = cells[0]
        elif column == first_column and set(cells[0]) != {"-"}:
            yield heading, cells


ROWS = [
    Row(table, lazy.strip("`"), yacs.strip("`"), default)
    for table, (lazy, yacs, default, _) in _lines("LazyConfig key")
]
OPTIONS = {
    (alignment.strip("`"), option.strip("`")): Row("", option, NONE, default)
    for _, (alignment, option, default, _) in _lines("alignment")
}


def written(value: Any) -> str:
    """A default as the file has it, lists as tuples."""
    if value in (MISSING, inspect.Parameter.empty):
        return "required"
    if isinstance(value, dict) and "_target_" in value:
        value = _located(value["_target_"])
    if callable(value):
        return value.__name__
    if isinstance(value, dict):
        return repr(dict(value))
    return repr(tuple(value) if isinstance(value, list) else value)


def _located(target: str | Callable) -> Callable:
    return locate(target) if isinstance(target, str) else target


def _load_common() -> dict[str, Any]:
    recipe: dict[str, Any] = {}
    for name in ("data/sem_seg", "optim", "train", "inference", "models/ifa_r18"):
        cfg = LazyConfig.load(str(ROOT / "configs" / "common" / f"{name}.py"))
        recipe |= OmegaConf.to_container(cfg, resolve=False)
    del recipe["adamw"]
    return recipe


COMMON = _load_common()


def _node(key: str) -> Any:
    node: Any = COMMON
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _target(key: str, table: str = "") -> Callable | None:
    """What takes the keys of a node as arguments."""
    node = _node(key)
    target = node.get("_target_") if isinstance(node, dict) else None
    return TARGETS.get(table, {}).get(key) or TARGETS[""].get(key) or _located(target)


def _parameters(target: Callable) -> dict[str, Any]:
    """Names and defaults of its arguments, those that it hands on to its base class among them."""
    parameters = inspect.signature(target).parameters.values()
    hands_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
    inherited = _parameters(target.__mro__[1]) if hands_on else {}
    return inherited | {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def _lazy_default(row: Row) -> str | None:
    """What a key is by default; None where there is no such key."""
    parent, _, name = row.lazy.rpartition(".")
    node, target = _node(parent), _target(parent, row.table)
    if name == "_target_":
        return written(_located(node[name]))
    if isinstance(node, dict) and name in node and not parent.startswith("model"):
        return written(node[name])
    parameters = _parameters(target) if target else {}
    return written(parameters[name]) if name in parameters else None


def _lazy_keys(key: str, table: str = "") -> Iterator[str]:
    """A node's keys, and where it calls what is this project's, that one's arguments."""
    node, target = _node(key), _target(key, table)
    names = set(node or {}) - {"_target_"}
    if target is not None and target.__module__.startswith("ifa_d2."):
        names |= set(_parameters(target))
    for path in (f"{key}.{name}" for name in sorted(names)):
        if path in TARGETS[""]:
            yield path
        if path in WHOLE or not (isinstance(_node(path), dict) or path in TARGETS[""]):
            yield path
        else:
            yield from _lazy_keys(path)


def _leaves(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Values by their keys; a node that takes any key is a value."""
    out: dict[str, Any] = {}
    for name, value in node.items():
        deeper = isinstance(value, CfgNode) and not value.is_new_allowed()
        out |= _leaves(value, f"{prefix}{name}.") if deeper else {f"{prefix}{name}": value}
    return out


def _yacs() -> CfgNode:
    cfg = get_cfg()
    add_ifa_config(cfg)
    return cfg


def test_lazy_keys_are_all_there() -> None:
    tops = ("dataloader", "model", "optimizer", "lr_multiplier", "train", "inference")
    known = {key for top in tops for key in _lazy_keys(top)} - GIVEN
    chosen = ("model.sem_seg_head.alignment.unfold", "train.amp.dtype", "inference.short_edges")
    assert known.issuperset(chosen)
    missing = sorted(known - {row.lazy for row in ROWS if row.table not in TARGETS})
    assert not missing, f"docs/CONFIG.md has no row of {missing}"


@pytest.mark.parametrize("table", sorted(set(TARGETS) - {""}))
def test_lazy_keys_of_another_model_are_all_there(table: str) -> None:
    (key,) = TARGETS[table]
    known = {f"{key}.{name}" for name in _parameters(TARGETS[table][key])}
    missing = sorted(known - {row.lazy for row in ROWS if row.table == table})
    assert not missing, f"docs/CONFIG.md, {table}, has no row of {missing}"


def test_yacs_keys_are_all_there() -> None:
    added = set(_leaves(_yacs())) - set(_leaves(get_cfg()))
    assert {"MODEL.IFA.ALIGNMENT_OPTIONS", "TEST.SLIDING_WINDOW.SIZE"} <= added
    missing = sorted(added - {row.yacs for row in ROWS})
    assert not missing, f"docs/CONFIG.md has no row of {missing}"


def test_lazy_keys_exist_and_defaults_are_stated() -> None:
    single = [row for row in ROWS if NONE in (row.lazy, row.yacs)]
    assert not [row for row in single if "yacs" in row.default]
    rows = [row for row in ROWS if row.lazy != NONE]
    unknown = sorted(row.lazy for row in rows if _lazy_default(row) is None)
    assert not unknown, f"docs/CONFIG.md has rows of keys that do not exist: {unknown}"
    stated = {(row.table, row.lazy): row.stated(yacs=False) for row in rows}
    assert len(stated) == len(rows)
    assert stated == {(row.table, row.lazy): _lazy_default(row) for row in rows}


def test_yacs_keys_exist_and_defaults_are_stated() -> None:
    # Detectron2's own count where it has one: MODEL.DEVICE is another where there is no GPU.
    known = _leaves(_yacs()) | _leaves(get_cfg())
    rows = [row for row in ROWS if row.yacs != NONE]
    unknown = sorted(row.yacs for row in rows if row.yacs not in known)
    assert not unknown, f"docs/CONFIG.md has rows of keys that do not exist: {unknown}"
    stated = {(row.lazy, row.yacs): row.stated(yacs=True) for row in rows}
    assert len(stated) == len(rows)
    assert stated == {(row.lazy, row.yacs): written(known[row.yacs]) for row in rows}


def test_options_of_alignments() -> None:
    methods = {method.__name__.lower(): method for method in DenseAlignment.__subclasses__()}
    assert set(methods) == set(DENSE_ALIGNMENTS)
    base = _parameters(DenseAlignment)
    known = {
        (name, option): written(default)
        for name, method in methods.items()
        for option, default in _parameters(method).items()
        if option not in base
    }
    assert {key: row.stated(yacs=False) for key, row in OPTIONS.items()} == known


@pytest.mark.parametrize(
    ("prefix", "arguments"),
    [
        (
            "model.backbone",
            lambda cfg: TimmBackbone.from_config(cfg, SimpleNamespace(channels=3)),
        ),
        ("dataloader.train.mapper", SemSegMapper.from_config),
        ("inference", lambda cfg: MultiViewSegmentor.from_config(cfg, nn.Identity())),
    ],
)
def test_yacs_key_gives_the_argument_beside_it(
    prefix: str, arguments: Callable[[CfgNode], dict[str, Any]]
) -> None:
    tables = {row.table for row in ROWS if row.lazy.startswith(prefix)} - {"ResNet: `build_resnet`"}
    rows = {
        row.lazy.removeprefix(f"{prefix}."): row.yacs
        for row in ROWS
        if row.table in tables and row.lazy.rpartition(".")[0] == prefix and row.yacs != NONE
    }
    rows = {name: key for name, key in rows.items() if name not in ("_target_", "tta")}
    wrong = {}
    for name, key in rows.items():
        cfg = _yacs()
        cfg.TEST.AUG.ENABLED = True
        *parents, last = key.split(".")
        node = reduce(getattr, parents, cfg)
        mark = CfgNode({"a": 1}) if isinstance(node[last], CfgNode) else "a mark"
        node[last] = mark
        if arguments(cfg).get(name) != mark:
            wrong[f"{prefix}.{name}"] = key
    assert len(rows) >= 4 and not wrong


# Of MODEL.IFA, what a key needs to be read.
_NEEDS = {
    "MODEL.IFA.ENSEMBLE_OUTPUTS": {"LOCAL_ENSEMBLE": True},
    "MODEL.IFA.TARGET_SPACINGS": {"TARGETS": "jittered_grid"},
    "MODEL.IFA.IMPORTANCE_RATIO": {"TARGETS": "uncertain_points"},
    "MODEL.IFA.OVERSAMPLE_RATIO": {"TARGETS": "uncertain_points"},
    "MODEL.IFA.AUX_LOSS_WEIGHT": {"AUX_FEATURE": "p2"},
}
# Other values than by default, where it is not any.
_CHOSEN = {
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
    "MODEL.IFA.ENCODING": "sine",
    "MODEL.IFA.FREQUENCY_LAW": "2exp",
    "MODEL.IFA.TARGETS": "uncertain_points",
    "MODEL.IFA.TARGET_SPACINGS": [0.5],
    "MODEL.IFA.CLASS_WEIGHTS": [0.5, 2.0],
    "MODEL.IFA.LABEL_SMOOTHING": 0.1,
}
# Keys whose value is a name of a part.
_OF_PARTS = ("MODEL.SEM_SEG_HEAD.NAME", "MODEL.IFA.PROJECTIONS", "MODEL.IFA.DECODER")


def _another(value: bool | float | list) -> bool | float | list:
    """Another value than the default."""
    if isinstance(value, bool):
        return not value
    return value[:2] if isinstance(value, list | tuple) else type(value)(value / 2)


def test_yacs_key_of_the_head_gives_the_key_beside_it() -> None:
    prefix = "model.sem_seg_head."
    shapes = {f"p{i}": ShapeSpec(channels=256, stride=2**i) for i in range(2, 6)}
    found, expected = {}, {}
    for row in ROWS:
        if not row.lazy.startswith(prefix) or row.yacs == NONE or row.yacs in _OF_PARTS:
            continue
        cfg = _yacs()
        cfg.MODEL.IFA.update(_NEEDS.get(row.yacs, {}))
        *parents, last = row.yacs.split(".")
        node = reduce(getattr, parents, cfg)
        node[last] = _CHOSEN[row.yacs] if row.yacs in _CHOSEN else _another(node[last])
        key = row.lazy.removeprefix(prefix)
        found[row.yacs] = OmegaConf.select(head_config(yacs_options(cfg, shapes)), key)
        expected[row.yacs] = node[last]
    expected["MODEL.SEM_SEG_HEAD.CONVS_DIM"] = [64] * 4  # a level's, for all
    expected["MODEL.IFA.TARGETS"] = UncertainPointTargets
    assert len(found) >= 20
    found = {k: list(v) if isinstance(v, ListConfig) else v for k, v in found.items()}
    expected = {k: list(v) if isinstance(v, tuple) else v for k, v in expected.items()}
    assert found == expected


def test_train_keys_of_both_kinds_set_the_same() -> None:
    lazy = OmegaConf.create({"train": COMMON["train"]})
    yacs = _yacs()
    OmegaConf.update(lazy, "train.amp", {"enabled": True, "dtype": "bfloat16"})
    yacs.merge_from_list(["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16"])
    lazy.train.device = yacs.MODEL.DEVICE = "cpu"
    yacs.TEST.PRECISE_BN.ENABLED = True
    # An average and early stopping need these.
    yacs.TEST.PRECISE_BN.NUM_ITER = 0
    yacs.TEST.EVAL_PERIOD = 1000
    lazy.train.checkpointer.period = 100  # 0 follows max_iter
    fixed = ("train.device", "train.amp.dtype")  # on the CPU, nothing else is allowed
    rows = [r for r in ROWS if r.table == "Train" and NONE not in (r.lazy, r.yacs)]
    for row in (row for row in rows if row.lazy not in fixed):
        old = OmegaConf.select(lazy, row.lazy)
        new = {bool: not old, int: 7, float: 0.5, str: "elsewhere"}[type(old)]
        changed_lazy, changed_yacs = lazy.copy(), yacs.clone()
        OmegaConf.update(changed_lazy, row.lazy, new)
        changed_yacs.merge_from_list([row.yacs, new])
        changes = [_changes(lazy, changed_lazy), _changes(yacs, changed_yacs)]
        assert changes[0] == changes[1] and len(changes[0]) == 1, (row.lazy, row.yacs)


def _changes(before: DictConfig | CfgNode, after: DictConfig | CfgNode) -> dict[str, Any]:
    old, new = (dataclasses.asdict(TrainSettings.from_config(cfg)) for cfg in (before, after))
    return {name: value for name, value in new.items() if value != old[name]}


def test_commands_and_messages_are_those_of_the_code() -> None:
    text = TEXT.replace("\\\n", " ")
    commands = re.findall(r"^ *python tools/train_net\.py (.+)$", text, re.MULTILINE)
    lazy, yacs = (training_parser("").parse_args(shlex.split(command)) for command in commands)
    recipe = load_config(str(ROOT / lazy.config_file), lazy.opts)
    assert (recipe.model.sem_seg_head.alignment.hidden_dims, recipe.train.seed) == ([256, 128], 2)
    cfg = load_config(str(ROOT / yacs.config_file), yacs.opts)
    assert (cfg.yacs.MODEL.IFA.HIDDEN_DIMS, cfg.train.seed) == ([256, 128], 2)
    (message,) = re.findall("`(the config has no key [^`]+)`", " ".join(TEXT.split()))
    with pytest.raises(ValueError, match=re.escape(message)):
        load_config(str(ROOT / lazy.config_file), ["train.sed=2"])


def test_values_of_adamw() -> None:
    (paragraph,) = re.findall(r"also has `adamw`.+?\n\n", TEXT, re.DOTALL)
    stated = {key: float(value) for key, value in re.findall(r"`([\w.]+)`\s([\d.]*\d)", paragraph)}
    adamw = LazyConfig.load(str(ROOT / "configs" / "common" / "optim.py")).adamw
    assert len(stated) == 4
    assert stated == {key: OmegaConf.select(adamw, key) for key in stated}


def test_links_lead_to_headings() -> None:
    links = re.findall(r"\]\(([^)#]*)#([^)]+)\)", TEXT.replace("\n", " "))
    assert len(links) > 8
    for file, anchor in links:
        path = ROOT / "docs" / (file or "CONFIG.md")
        headings = re.findall("^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{file}#{anchor}"
