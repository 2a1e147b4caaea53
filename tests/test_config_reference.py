"""docs/CONFIG.md against the code that it is made of, and yacs keys against LazyConfig keys."""

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.arguments import training_parser
from ifa_d2.config import HEAD_OPTIONS
from ifa_d2.data import SemSegMapper
from ifa_d2.engine.run import load_config
from ifa_d2.engine.settings import TrainSettings
from ifa_d2.engine.yacs_config import TRAIN_KEYS
from ifa_d2.modeling import MultiViewSegmentor, TimmBackbone, UncertainPointTargets
from ifa_d2.modeling.head_config import PLACES, head_config, yacs_options

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_config", ROOT / "docs/generate_config.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()
# Keys that other keys, or the text, stand for: what a node calls, and Detectron2's own arguments.
_OTHERS = (
    r"(dataloader\.(train|test)\.dataset|optimizer)\.\w+|dataloader\.test\.\w+(\.\w+)?|inference\.tta|"
    r"model\.sem_seg_head\.(levels\.input_shape\..*|alignment\.norm\.name)"
)


def test_page_is_what_the_command_writes() -> None:
    assert GENERATOR.render(TEXT) == TEXT, "run: python docs/generate_config.py"


def test_a_changed_default_changes_the_page() -> None:
    row = "| `model.sem_seg_head.criterion.threshold` | `0.7` |"
    assert TEXT.count(row) == 1
    assert GENERATOR.render(TEXT.replace(row, row.replace("0.7", "0.6"))) == TEXT


def _keys(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of the common recipe that have a value, and those of lists of nodes."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(index): one for index, one in enumerate(value)}
        if isinstance(value, dict):
            yield from _keys(value, f"{key}.")
        elif name != "_target_":
            yield key


def test_keys_of_common_recipes_are_all_there() -> None:
    found = set(re.findall(r"^\| `([a-z][\w.]+)` \|", TEXT, re.MULTILINE))
    keys = [key for key in _keys(GENERATOR.COMMON) if not key.startswith("train.")]
    missing = [key for key in keys if key not in found and not re.fullmatch(_OTHERS, key)]
    assert len(keys) > 50 and not missing


def test_every_callable_of_common_recipes_has_a_table() -> None:
    """What a recipe calls of this project stands in a mark."""

    def called(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if (target := node.get("_target_")) is not None:
                yield locate(target) if isinstance(target, str) else target
            for value in node.values():
                yield from called(value)
        elif isinstance(node, list):
            for value in node:
                yield from called(value)

    marks = " ".join(re.findall(r"<!-- (?:keys|options): (.*?) -->", TEXT)).split()
    marked = {locate(name) for name in marks if name.startswith("ifa_d2.")}
    targets = {one for one in called(GENERATOR.COMMON) if one.__module__.startswith("ifa_d2.")}
    assert len(targets) >= 10
    # Without arguments, or explained by those who call it.
    assert {one.__name__ for one in targets - marked} == {"norm_factory"}


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


def test_yacs_keys_are_all_there() -> None:
    added = set(_leaves(_yacs())) - set(_leaves(get_cfg()))
    assert {"MODEL.IFA.ALIGNMENT_OPTIONS", "TEST.SLIDING_WINDOW.SIZE"} <= added
    missing = [key for key in sorted(added) if key.rpartition(".")[2] not in TEXT]
    assert not missing, f"docs/CONFIG.md does not have {missing}"


@pytest.mark.parametrize(
    ("keys", "arguments"),
    [
        (
            {
                name: f"MODEL.TIMM.{name.upper()}"
                for name in (
                    "model_name",
                    "out_features",
                    "out_indices",
                    "norm",
                    "freeze",
                    "frozen",
                )
            },
            lambda cfg: TimmBackbone.from_config(cfg, SimpleNamespace(channels=3)),
        ),
        (
            {
                "image_format": "INPUT.FORMAT",
                "ignore_value": "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
                "num_points": "INPUT.POINTS.NUM_POINTS",
                "point_sampling": "INPUT.POINTS.SAMPLING",
                "importance_ratio": "INPUT.POINTS.IMPORTANCE_RATIO",
                "boundary_width": "INPUT.POINTS.BOUNDARY_WIDTH",
                "point_balance": "INPUT.POINTS.BALANCE",
            },
            SemSegMapper.from_config,
        ),
        (
            {
                "scales": "TEST.AUG.SCALES",
                "flip": "TEST.AUG.FLIP",
                "window": "TEST.SLIDING_WINDOW.SIZE",
                "stride": "TEST.SLIDING_WINDOW.STRIDE",
                "batch_size": "TEST.SLIDING_WINDOW.BATCH_SIZE",
            },
            lambda cfg: MultiViewSegmentor.from_config(cfg, nn.Identity()),
        ),
    ],
    ids=["TimmBackbone", "SemSegMapper", "MultiViewSegmentor"],
)
def test_yacs_key_gives_its_argument(
    keys: dict[str, str], arguments: Callable[[CfgNode], dict[str, Any]]
) -> None:
    for name, key in keys.items():
        cfg = _yacs()
        cfg.TEST.AUG.ENABLED = True
        *parents, last = key.split(".")
        node = reduce(getattr, parents, cfg)
        node[last] = "a mark"
        assert arguments(cfg)[name] == "a mark", key


# Of MODEL.IFA, what a key needs to be read.
_NEEDS = {
    "ENSEMBLE_OUTPUTS": {"LOCAL_ENSEMBLE": True},
    "TARGET_SPACINGS": {"TARGETS": "jittered_grid"},
    "POOL_SIZES": {"PROJECTIONS": ["pyramid_pooling"]},
    "ASPP_DROPOUT": {"ASPP_DILATIONS": [1, 2, 3]},
    "ASPP_FUSE_CHANNELS": {"ASPP_DILATIONS": [1, 2, 3]},
    "NUM_POINTS": {"TARGETS": "points"},
    "POINT_SAMPLING": {"TARGETS": "points"},
    "IMPORTANCE_RATIO": {"TARGETS": "points", "POINT_SAMPLING": "boundary"},
    "BOUNDARY_WIDTH": {"TARGETS": "points", "POINT_SAMPLING": "boundary"},
    "POINT_BALANCE": {"TARGETS": "points", "POINT_SAMPLING": "class_balanced"},
    "OVERSAMPLE_RATIO": {"TARGETS": "uncertain_points"},
    "AUX_CHANNELS": {"AUX_FEATURE": "p2"},
    "AUX_LOSS_WEIGHT": {"AUX_FEATURE": "p2"},
}
# Other values than by default, where it is not any.
_CHOSEN = {
    "ALIGNMENT": "carafe",
    "PROJECTIONS": ["identity"],
    "DECODER": "conv",
    "ASPP_DILATIONS": [1, 2, 3],
    "ASPP_FUSE_CHANNELS": 32,
    "POINT_SAMPLING": "boundary",
    "AUX_FEATURE": "p2",
    "CLASS_WEIGHTS": [0.5] * 54,
    "LABEL_SMOOTHING": 0.1,
    "ENCODING": "sine",
    "FREQUENCY_LAW": "2exp",
    "TARGETS": "uncertain_points",
    "TARGET_SPACINGS": [0.5],
}


def _another(value: bool | float | list) -> bool | float | list:
    """Another value than the default."""
    if isinstance(value, bool):
        return not value
    return value[:2] if isinstance(value, list) else type(value)(value / 2)


@pytest.mark.parametrize("name", HEAD_OPTIONS)
def test_yacs_key_of_the_head_changes_its_place_alone(name: str) -> None:
    shapes = {f"p{i}": ShapeSpec(channels=256, stride=2**i) for i in range(2, 6)}
    key, place = name.upper(), PLACES.get(name, name)

    def options(**values: Any) -> DictConfig:
        cfg = _yacs()
        cfg.MODEL.IFA.update(_NEEDS.get(key, {}) | values)
        return head_config(yacs_options(cfg, shapes))

    value = _CHOSEN[key] if key in _CHOSEN else _another(HEAD_OPTIONS[name])
    before, after = options(), options(**{key: value})
    first = place.split(" ")[0].rstrip(",")
    found = OmegaConf.select(after, first)
    assert found != OmegaConf.select(before, first, default=None)
    if not isinstance(found, DictConfig):  # a part, of which the key is one argument
        found = list(found) if isinstance(found, ListConfig) else found
        assert found == (UncertainPointTargets if key == "TARGETS" else value)
    changed = {key: "levels alignment" for key in ("ALIGNMENT", "DECODER", "PROJECTIONS")}
    changed |= {"POOL_SIZES": "levels alignment", "AUX_FEATURE": "aux_heads aux_loss_weight"}
    for part in (one for one in after if one not in changed.get(key, first)):
        assert after[part] == before[part]


def test_train_keys_of_both_kinds_set_the_same() -> None:
    lazy = OmegaConf.create({"train": GENERATOR.COMMON["train"]})
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
    rows = {f"train.{key}": yacs_key for key, yacs_key in TRAIN_KEYS.items()}
    rows = {key: name for key, name in rows.items() if OmegaConf.select(lazy, key) is not None}
    assert len(rows) >= 15
    for key, name in ((key, name) for key, name in rows.items() if key not in fixed):
        old = OmegaConf.select(lazy, key)
        new = {bool: not old, int: 7, float: 0.5, str: "elsewhere"}[type(old)]
        changed_lazy, changed_yacs = lazy.copy(), yacs.clone()
        OmegaConf.update(changed_lazy, key, new)
        changed_yacs.merge_from_list([name, new])
        changes = [_changes(lazy, changed_lazy), _changes(yacs, changed_yacs)]
        assert changes[0] == changes[1] and len(changes[0]) == 1, (key, name)


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
    assert len(links) >= 7
    for file, anchor in links:
        path = ROOT / "docs" / (file or "CONFIG.md")
        headings = re.findall("^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{file}#{anchor}"
