"""Parameters and multiply-adds of a model's parts, by the way of evaluation.

Convolutions and matrix products of one picture are counted, norms and element-wise operations are
not; the auxiliary head counts although it only runs in training, as in the paper. The columns are

- ours (``macs``): as this package evaluates the model;
- textbook (``macs_textbook``): as the paper counts it. The picture is not padded, levels are
  concatenated before the MLP, and the max pool of its ResNet rounds sizes up (at 1024 pixels to
  maps of 257, 129, 65, 33 cells). A transposed convolution counts as one over its output, with the
  zeros between the cells of its input: only this count gives the paper's "Deconvolution";
- same maps (``macs_textbook_same_maps``): levels are concatenated, but the maps are our model's.

Interpolation is not counted (nearest and bilinear alignment have one cost in the paper), neither at
a grid's places nor at learned offsets; the weighted sums of CARAFE and SAPA are, a multiply-add for
each neighbour and channel.

A model with parts beside backbone and semantic head has a method ``further_parts(features)``, by
name what runs them on the backbone's features; all columns count them alike. ``head_passes`` says
how often its semantic head runs, if not once.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.projects.deeplab.resnet import DeepLabStem
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..engine.build import without_pretrained
from ..layers import GridQuery, ImplicitAlignment, textbook_alignment
from ..modeling import IFASemSegHead
from ..modeling.picture_fields import padding_divisor

DENSE = "alignment on the grid"
FIRST, REST = "alignment, first layer", "alignment, other layers"
GRID_DECODER = "decoder on the grid"
AUXILIARY = "auxiliary head"


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-adds of a part, see this module's docstring."""

    name: str
    params: int
    macs: int
    macs_textbook: int
    macs_textbook_same_maps: int


def analyze(cfg: CfgNode | DictConfig, input_size: tuple[int, int]) -> list[Cost]:
    """Count the parts, in their order, for one picture of ``input_size`` (y, x) pixels.

    Raises:
        ValueError: a size below 1, or a model that is no backbone with an ``IFASemSegHead`` or has
            other parts, and no ``further_parts`` to run them.
    """
    if min(input_size) < 1:
        raise ValueError(f"input_size must be at least 1 by 1, got {input_size}")
    model = build_on_meta(cfg)
    head = getattr(model, "sem_seg_head", None)
    if not isinstance(head, IFASemSegHead):
        raise ValueError(f"model.sem_seg_head must be an IFASemSegHead, got {type(head).__name__}")
    further = _further_modules(model)
    if further and not hasattr(model, "further_parts"):
        raise ValueError(
            "model must be a backbone with an IFASemSegHead, or have a method further_parts, got "
            f"{type(model).__name__} with {', '.join(further)}, whose multiply-adds are not known"
        )
    step = padding_divisor(model)
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
    """Build a config's model on ``meta`` in evaluation mode; initial weights are not loaded."""
    cfg = without_pretrained(cfg)
    try:
        with torch.device("meta"):
            return instantiate(cfg.model).eval()
    except RuntimeError:  # Detectron2's transformers read values while they are built
        return instantiate(cfg.model).to("meta").eval()


def count_params(model: nn.Module) -> dict[str, int]:
    """Count parameters by part."""
    head, levels = model.sem_seg_head, model.sem_seg_head.levels
    modules: dict[str, list[nn.Module]] = _backbone_parts(model.backbone)
    modules |= {f"projection {name}": [m] for name, m in levels.projections.items()}
    if levels.dense_alignment is not None:
        modules[DENSE] = [levels.dense_alignment]
    if levels.grid_decoder is not None:
        modules[GRID_DECODER] = [levels.grid_decoder]
    first, *rest = [*head.alignment.mlp.layers, head.alignment.predictor]
    modules[FIRST] = [head.alignment.encodings, first]
    modules[REST] = rest
    if len(head.aux_heads):
        modules[AUXILIARY] = list(head.aux_heads)
    modules |= {name: [module] for name, module in _further_modules(model).items()}
    return {
        name: sum(p.numel() for module in part for p in module.parameters())
        for name, part in modules.items()
    }


def _further_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules with parameters beside backbone and semantic head."""
    return {
        name: module
        for name, module in model.named_children()
        if name not in ("backbone", "sem_seg_head") and any(True for _ in module.parameters())
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
    """Count multiply-adds by part.

    Args:
        model: a segmentation model on the meta device.
        size: of the picture.
        round_up: a ResNet's max pool rounds up.
        textbook: levels are concatenated before the MLP.
    """
    head, parts = model.sem_seg_head, model.sem_seg_head.levels
    image = torch.empty(1, 3, *size, device="meta")
    features, counts = _count_backbone(model.backbone, image, round_up)
    levels: list[Tensor] = []
    for name, projection in parts.projections.items():
        made, counts[f"projection {name}"] = _count(projection, features[name])
        levels += [made] if isinstance(made, Tensor) else made
    if parts.dense_alignment is not None:
        levels, counts[DENSE] = _count(parts.align, levels, features, textbook=textbook)
    if parts.grid_decoder is not None:
        (levels, _), counts[GRID_DECODER] = _count(parts.grid_decoder, levels)
    total = count_alignment(head.alignment, levels, textbook=textbook)
    queries = levels[0].shape[2] * levels[0].shape[3]
    rest = [*head.alignment.mlp.layers, head.alignment.predictor][1:]
    counts[REST] = queries * sum(layer.weight.numel() for layer in rest)
    counts[FIRST] = total - counts[REST]
    # in the order in which they run
    counts[REST] = counts.pop(REST)
    passes = getattr(model, "head_passes", 1)
    counts |= {name: passes * n for name, n in counts.items() if not name.startswith("backbone")}
    further = model.further_parts(features) if hasattr(model, "further_parts") else {}
    counts |= {name: _count(run)[1] for name, run in further.items()}
    if len(head.aux_heads):
        counts[AUXILIARY] = sum(_count(aux, features[aux.feature])[1] for aux in head.aux_heads)
    return counts


def _count_backbone(
    backbone: nn.Module, image: Tensor, round_up: bool
) -> tuple[dict[str, Tensor], dict[str, int]]:
    if not isinstance(backbone, ResNet):
        features, count = _count(backbone, image)
        return features, {"backbone": count}
    x, count = _count(backbone.stem, image)
    if round_up and isinstance(backbone.stem, (BasicStem, DeepLabStem)):  # which pool
        before_pool = [-(-length // 2) for length in image.shape[2:]]
        x = x.new_empty((*x.shape[:2], *(length // 2 + 1 for length in before_pool)))
    features, counts = {}, {"backbone stem": count}
    for name in backbone.stage_names:
        x, counts[f"backbone {name}"] = _count(backbone.get_submodule(name), x)
        features[name] = x
    return features, counts


def count_alignment(alignment: ImplicitAlignment, levels: list[Tensor], *, textbook: bool) -> int:
    """Count multiply-adds on the finest level's grid, by the way of evaluation."""
    query = GridQuery.regular(*levels[0].shape[-2:])
    # One level on its own grid without positions leaves nothing to take apart.
    if textbook or (len(levels) == 1 and not alignment.encodings[0].num_features):
        return _count(textbook_alignment, alignment, levels, query)[1]
    # Its steps depend on where cells lie, which the meta device does not know.
    alignment = copy.deepcopy(alignment).to_empty(device="cpu")
    levels = [torch.zeros(level.shape) for level in levels]
    return _count(alignment, levels, query)[1]


def _count(function: Callable[..., Any], *args: Any, textbook: bool = False) -> tuple[Any, int]:
    mapping = {torch.ops.aten.convolution: _convolution_over_output} if textbook else None
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        result = function(*args)
    return result, counter.get_total_flops() // 2


def _convolution_over_output(
    x_shape: torch.Size, w_shape: torch.Size, *args: Any, out_shape: torch.Size, **kwargs: Any
) -> int:
    """Operations of a convolution (two a multiply-add) whose weights act once an output cell."""
    return 2 * x_shape[0] * math.prod(w_shape) * math.prod(out_shape[2:])


def report(parts: list[Cost]) -> dict[str, Any]:
    """Convert totals and parts to plain types for a JSON file."""
    rows = [asdict(part) for part in parts]
    totals = {key: sum(row[key] for row in rows) for key in rows[0] if key != "name"}
    return {**totals, "parts": rows}
