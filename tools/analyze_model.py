"""Print a model's parameters and multiply-adds by part, for both ways to evaluate it.

    python tools/analyze_model.py --config-file configs/cityscapes/ifa_r50.py \
        --input-size 1024 1024 --json cost.json

Convolutions and matrix products of one picture are counted, norms and what is done element by
element are not; the auxiliary head counts although it only runs in training, as in the paper. The
columns are

- ours (``macs``): as this package evaluates the model;
- textbook (``macs_textbook``): as the paper counts it. The picture is not padded, levels are
  concatenated before the MLP, and the max pool of its ResNet rounds sizes up (at 1024 pixels to
  maps of 257, 129, 65, 33 cells);
- same maps (``macs_textbook_same_maps``): levels are concatenated, but the maps are our model's.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import ResNet, build_model
from omegaconf import DictConfig
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ifa_d2.engine.run import load_config
from ifa_d2.files import atomic_path
from ifa_d2.layers import GridQuery, ImplicitAlignment, textbook_alignment
from ifa_d2.modeling import IFASemSegHead

FIRST, REST = "alignment, first layer", "alignment, other layers"


@dataclass(frozen=True)
class Cost:
    """A part's parameters and multiply-adds, see this file's docstring."""

    name: str
    params: int
    macs: int
    macs_textbook: int
    macs_textbook_same_maps: int


def analyze(cfg: CfgNode | DictConfig, input_size: tuple[int, int]) -> list[Cost]:
    """The parts in the order in which they run, for one picture of ``input_size`` (y, x) pixels.

    Raises:
        ValueError: a size below 1, or a model that is no backbone with an ``IFASemSegHead``.
    """
    if min(input_size) < 1:
        raise ValueError(f"input_size must be at least 1 by 1, got {input_size}")
    model = build_on_meta(cfg)
    head = getattr(model, "sem_seg_head", None)
    if not isinstance(head, IFASemSegHead):
        raise ValueError(f"model.sem_seg_head must be an IFASemSegHead, got {type(head).__name__}")
    step = max(model.backbone.size_divisibility, 1)
    size = tuple(-(-length // step) * step for length in input_size)
    with torch.no_grad():
        ours = count_model(model, size, round_up=False, textbook=False)
        same = count_model(model, size, round_up=False, textbook=True)
        # The paper's network does not pad, where it can do without.
        unpadded = input_size if isinstance(model.backbone, ResNet) else size
        paper = count_model(model, unpadded, round_up=True, textbook=True)
    params = count_params(model)
    assert sum(params.values()) == sum(p.numel() for p in model.parameters())
    return [Cost(name, params[name], ours[name], paper[name], same[name]) for name in ours]


def build_on_meta(cfg: CfgNode | DictConfig) -> nn.Module:
    """The model without values, in evaluation mode."""
    with torch.device("meta"):
        if isinstance(cfg, CfgNode):
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.DEVICE = "meta"
            return build_model(cfg).eval()
        return instantiate(cfg.model).eval()


def count_params(model: nn.Module) -> dict[str, int]:
    """Parameters by part."""
    head = model.sem_seg_head
    modules: dict[str, list[nn.Module]] = _backbone_parts(model.backbone)
    modules |= {f"projection {name}": [m] for name, m in head.projections.items()}
    mlp = head.alignment.mlp.layers
    modules[FIRST] = [head.alignment.encodings, mlp[0]]
    modules[REST] = [*mlp[1:], head.alignment.predictor]
    if head.aux_head is not None:
        modules["auxiliary head"] = [head.aux_head]
    return {
        name: sum(p.numel() for module in part for p in module.parameters())
        for name, part in modules.items()
    }


def _backbone_parts(backbone: nn.Module) -> dict[str, list[nn.Module]]:
    if not isinstance(backbone, ResNet):
        return {"backbone": [backbone]}
    return {
        f"backbone {name}": [backbone.get_submodule(name)]
        for name in ("stem", *backbone.stage_names)
    }


def count_model(
    model: nn.Module, size: tuple[int, int], *, round_up: bool, textbook: bool
) -> dict[str, int]:
    """Multiply-adds by part.

    Args:
        model: a segmentation model on the meta device.
        size: of the picture.
        round_up: a ResNet's max pool rounds up.
        textbook: levels are concatenated before the MLP.
    """
    head = model.sem_seg_head
    image = torch.empty(1, 3, *size, device="meta")
    features, counts = _count_backbone(model.backbone, image, round_up)
    levels = []
    for name, projection in head.projections.items():
        level, counts[f"projection {name}"] = _count(projection, features[name])
        levels.append(level)
    total = count_alignment(head.alignment, levels, textbook=textbook)
    queries = levels[0].shape[2] * levels[0].shape[3]
    layers = [*head.alignment.mlp.layers[1:], head.alignment.predictor]
    counts[REST] = queries * sum(layer.weight.numel() for layer in layers)
    counts[FIRST] = total - counts[REST]
    # in the order in which they run
    counts[REST] = counts.pop(REST)
    if head.aux_head is not None:
        counts["auxiliary head"] = _count(head.aux_head, features[head.aux_feature])[1]
    return counts


def _count_backbone(
    backbone: nn.Module, image: Tensor, round_up: bool
) -> tuple[dict[str, Tensor], dict[str, int]]:
    if not isinstance(backbone, ResNet):
        features, count = _count(backbone, image)
        return features, {"backbone": count}
    x, count = _count(backbone.stem, image)
    if round_up:
        before_pool = [-(-length // 2) for length in image.shape[2:]]
        x = x.new_empty((*x.shape[:2], *(length // 2 + 1 for length in before_pool)))
    features, counts = {}, {"backbone stem": count}
    for name in backbone.stage_names:
        x, counts[f"backbone {name}"] = _count(backbone.get_submodule(name), x)
        features[name] = x
    return features, counts


def count_alignment(alignment: ImplicitAlignment, levels: list[Tensor], *, textbook: bool) -> int:
    """Multiply-adds on the finest level's grid, of one evaluation or the other."""
    query = GridQuery.regular(*levels[0].shape[-2:])
    if textbook:
        return _count(textbook_alignment, alignment, levels, query)[1]
    # Its steps depend on where cells lie, which the meta device does not know.
    alignment = copy.deepcopy(alignment).to_empty(device="cpu")
    levels = [torch.zeros(level.shape) for level in levels]
    return _count(alignment, levels, query)[1]


def _count(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    with FlopCounterMode(display=False) as counter:
        result = function(*args)
    return result, counter.get_total_flops() // 2


def report(parts: list[Cost]) -> dict[str, Any]:
    """Totals and parts as they go into a JSON file."""
    rows = [asdict(part) for part in parts]
    totals = {key: sum(row[key] for row in rows) for key in rows[0] if key != "name"}
    return {**totals, "parts": rows}


def table(result: dict[str, Any]) -> str:
    """The report for a person."""
    keys = ("params", "macs", "macs_textbook", "macs_textbook_same_maps")
    scales = (1e6, 1e9, 1e9, 1e9)
    rows = [
        [row["name"], *(row[key] / scale for key, scale in zip(keys, scales, strict=True))]
        for row in [*result["parts"], {"name": "total", **result}]
    ]
    headers = ["part", "params (M)", "ours (G)", "textbook (G)", "same maps (G)"]
    return tabulate(rows, headers=headers, floatfmt=("", ".3f", ".2f", ".2f", ".2f"))


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--input-size", type=int, nargs=2, required=True, metavar=("H", "W"), help="in pixels"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("opts", nargs="*", metavar="key=value", help="changes of the config")
    options = parser.parse_args(args)
    try:
        size = tuple(options.input_size)
        result = report(analyze(load_config(options.config_file, options.opts), size))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(table(result))
    if options.json is not None:
        config = {"config_file": options.config_file, "input_size": list(size)}
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps({**config, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
