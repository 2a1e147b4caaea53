"""State dicts of the authors' published code, renamed for this package's model.

The authors' network is a torchvision-style ResNet with a deep stem (``encoder``), projections or
ASPP and the alignment function (``decoder``), and an auxiliary head (``auxor``).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..layers import PositionEncoding
from ..modeling.backbone import BLOCKS_PER_STAGE

_LEVELS = ("res2", "res3", "res4", "res5")
_COUNTER = "num_batches_tracked"
_POOLING = "sem_seg_head.levels.projections.res5.aspp.convs.4.1"
_FUSE = "sem_seg_head.levels.projections.res5.fuse"
_RECIPES = ("cityscapes/ifa_r50.py", "cityscapes/ifa_aspp_r101.py")  # without ASPP, with it
_NORM = ("weight", "bias", "running_mean", "running_var", _COUNTER)


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """A converted state dict and the model that it is for.

    Attributes:
        state: tensors by their names in ``SemanticSegmentor`` with ``IFASemSegHead``.
        recipe: the recipe most like the model. The dilations of ASPP, which tensors do not tell,
            are the authors' usual ones, as its.
        settings: what the tensors tell of the model, by the keys of that recipe
            (``"model.sem_seg_head.num_classes"`` and so on).
    """

    state: dict[str, Tensor]
    recipe: str
    settings: dict[str, Any]


def convert_reference_state_dict(reference: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Rename the tensors of the authors' network.

    Frequencies that act on one axis each, (2F, 2) in the authors' matrix, become a column an axis,
    (F, 2); where any of them acts on both axes the matrices stay as they are, and the settings ask
    for coupled frequencies. Frequencies that were not learned are in no checkpoint: they are
    written at the values that the authors' code gives them. The norm of ASPP's image pooling, which
    Detectron2's ASPP does not have, goes into the convolution before it.

    Args:
        reference: ``model_state`` of the authors' checkpoint; ``module.`` before all names is
            taken off.

    Raises:
        ValueError: names that are missing, or that the authors' network does not have; sizes that
            contradict each other.
    """
    prefix = "module."
    if reference and all(name.startswith(prefix) for name in reference):
        reference = {name.removeprefix(prefix): value for name, value in reference.items()}
    renames = dict(_renames(reference))
    unknown = sorted(set(reference) - set(renames))
    missing = sorted(n for n in set(renames) - set(reference) if not n.endswith(_COUNTER))
    if unknown or missing:
        faults = [("missing", missing), ("unknown", unknown)]
        raise ValueError(
            "not a checkpoint of the authors' network: "
            + "; ".join(f"{what} {', '.join(names)}" for what, names in faults if names)
        )
    state = {
        ours: reference[theirs].clone() if theirs in reference else torch.tensor(0)
        for theirs, ours in renames.items()
    }
    for name, value in state.items():
        if ".alignment." in name and value.dim() == 3:  # of a 1-d convolution
            state[name] = value[..., None]
    if f"{_FUSE}.weight" in state:
        _adapt_aspp(state)
    settings = _settings(reference)
    state.update(_frequencies(reference, settings))
    return ConvertedCheckpoint(state, _RECIPES[f"{_FUSE}.weight" in state], settings)


# -- names


def _renames(reference: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """The authors' name and ours, for each tensor that a network like this one has."""
    yield from _encoder(reference)
    head = "sem_seg_head.levels.projections."
    for i, level in enumerate(_LEVELS[:3], start=1):
        yield from _unit(f"decoder.enc{i}.0", f"decoder.enc{i}.1", head + level, bias=True)
    if any(name.startswith("decoder.aspp.") for name in reference):
        convs = f"{head}res5.aspp.convs"
        for i in range(4):
            yield from _unit(
                f"decoder.aspp.conv{i + 2}.0", f"decoder.aspp.conv{i + 2}.1", f"{convs}.{i}"
            )
        yield from _unit("decoder.aspp.conv1.1", "decoder.aspp.conv1.2", _POOLING)
        yield from _unit("decoder.head.0", "decoder.head.1", _FUSE)
    else:
        yield from _unit("decoder.head.0", "decoder.head.1", f"{head}res5", bias=True)

    ours = "sem_seg_head.alignment"
    theirs = "decoder.ifa.imnet"
    last = _last_index(reference, theirs)
    for i in range(last // 3):
        yield from _unit(
            f"{theirs}.{3 * i}", f"{theirs}.{3 * i + 1}", f"{ours}.mlp.layers.{i}", True
        )
    yield from _conv(f"{theirs}.{last}", f"{ours}.predictor", bias=True)
    if any(name.endswith(".emb") for name in reference):
        for i in range(len(_LEVELS)):
            yield f"decoder.ifa.pos{i + 1}.emb", f"{ours}.encodings.{i}.frequencies"

    if any(name.startswith("auxor.") for name in reference):
        yield from _unit("auxor.aux.0", "auxor.aux.1", "sem_seg_head.aux_heads.0.conv", bias=True)
        yield from _conv("auxor.aux.4", "sem_seg_head.aux_heads.0.predictor", bias=True)


def _encoder(reference: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    stem = "backbone.stem.conv"
    yield from _unit("encoder.conv1.0", "encoder.conv1.1", f"{stem}1")
    yield from _unit("encoder.conv1.3", "encoder.conv1.4", f"{stem}2")
    yield from _unit("encoder.conv1.6", "encoder.bn1", f"{stem}3")
    depth = _depth(reference)
    num_convs = 2 if depth < 50 else 3
    for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[depth], start=1):
        for block in range(num_blocks):
            theirs = f"encoder.layer{stage}.{block}"
            ours = f"backbone.{_LEVELS[stage - 1]}.{block}"
            for conv in range(1, num_convs + 1):
                yield from _unit(f"{theirs}.conv{conv}", f"{theirs}.bn{conv}", f"{ours}.conv{conv}")
            shortcut = f"{theirs}.downsample"
            widens = block == 0 and (stage > 1 or depth >= 50)
            if widens or any(name.startswith(f"{shortcut}.") for name in reference):
                yield from _unit(f"{shortcut}.0", f"{shortcut}.1", f"{ours}.shortcut")


def _unit(conv: str, norm: str, ours: str, bias: bool = False) -> Iterator[tuple[str, str]]:
    yield from _conv(conv, ours, bias)
    yield from ((f"{norm}.{part}", f"{ours}.norm.{part}") for part in _NORM)


def _conv(theirs: str, ours: str, bias: bool) -> Iterator[tuple[str, str]]:
    for part in ("weight", "bias") if bias else ("weight",):
        yield f"{theirs}.{part}", f"{ours}.{part}"


def _last_index(reference: Mapping[str, Tensor], prefix: str) -> int:
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in reference)
    return max((int(match[1]) for match in found if match), default=0)


def _depth(reference: Mapping[str, Tensor]) -> int:
    num_blocks = _last_index(reference, "encoder.layer3") + 1
    bottlenecks = "encoder.layer1.0.conv3.weight" in reference
    for depth, blocks in BLOCKS_PER_STAGE.items():
        if blocks[2] == num_blocks and (depth >= 50) == bottlenecks:
            return depth
    raise ValueError(
        f"encoder.layer3 has {num_blocks} {'bottlenecks' if bottlenecks else 'basic blocks'}, "
        "which no ResNet has"
    )


# -- values


def _adapt_aspp(state: dict[str, Tensor]) -> None:
    """Fold image pooling's norm into its convolution, and move its channels behind the others'."""
    weight, bias, mean, var, _ = (state.pop(f"{_POOLING}.norm.{part}") for part in _NORM)
    scale = weight / (var + 1e-5).sqrt()
    state[f"{_POOLING}.weight"] *= scale[:, None, None, None]
    state[f"{_POOLING}.bias"] = bias - mean * scale
    fuse = state[f"{_FUSE}.weight"]
    state[f"{_FUSE}.weight"] = fuse.roll(-len(scale), dims=1)


# -- what the tensors tell of the model


def _settings(reference: Mapping[str, Tensor]) -> dict[str, Any]:
    depth = _depth(reference)
    backbone = {"depth": depth, "stem_channels": reference["encoder.bn1.weight"].numel()}
    if depth < 50:
        backbone["res5_multi_grid"] = None
    aspp = "decoder.aspp.conv2.0.weight" in reference
    sources = [f"decoder.enc{i}.0.weight" for i in (1, 2, 3)]
    sources.append("decoder.aspp.conv2.0.weight" if aspp else "decoder.head.0.weight")
    head: dict[str, Any] = {
        f"levels.input_shape.{level}.channels": reference[source].shape[1]
        for level, source in zip(_LEVELS, sources, strict=True)
    }
    last = _last_index(reference, "decoder.ifa.imnet")
    sizes = [reference[f"decoder.ifa.imnet.{i}.weight"].shape[0] for i in range(0, last + 1, 3)]
    channels = reference[sources[0]].shape[0]
    head |= {
        "num_classes": sizes[-1],
        "levels.channels": [channels] * len(_LEVELS),
        "alignment.hidden_dims": sizes[:-1],
        **{f"alignment.{key}": value for key, value in _alignment_settings(reference).items()},
    }
    if aspp:
        head["levels.projections.res5.out_channels"] = channels
    if "auxor.aux.0.weight" in reference:
        head["aux_heads.0.channels"] = reference["auxor.aux.0.weight"].shape[0]
    else:
        head["aux_heads"] = []
    return {
        **{f"model.backbone.{key}": value for key, value in backbone.items()},
        **{f"model.sem_seg_head.{key}": value for key, value in head.items()},
    }


def _alignment_settings(reference: Mapping[str, Tensor]) -> dict[str, Any]:
    """Encoding and unfolding, from the width of the first layer and from the frequencies."""
    columns = reference["decoder.ifa.imnet.0.weight"].shape[1]
    channels = reference["decoder.enc1.0.weight"].shape[0]
    width = columns // len(_LEVELS)
    unfold = width >= 9 * channels
    position = width - channels * (9 if unfold else 1)
    if columns % len(_LEVELS) or position < 2 or position % 4 != 2:
        raise ValueError(
            f"decoder.ifa.imnet.0.weight has {columns} columns, which are not four levels of "
            f"{channels} channels and a position encoding"
        )
    settings: dict[str, Any] = {"unfold": unfold}
    embeddings = _embeddings(reference)
    if position == 2 and not embeddings:
        return {**settings, "encoding": "coord"}
    count = (position - 2) // 4
    for name, value in embeddings.items():
        if value.shape != (2 * count, 2):
            raise ValueError(
                f"{name} is of shape {tuple(value.shape)}, but decoder.ifa.imnet.0.weight has "
                f"columns for {(2 * count, 2)}"
            )
    coupled = any(bool(v[:count, 1].any() or v[count:, 0].any()) for v in embeddings.values())
    return {
        **settings,
        "encoding": "learned",
        "num_frequencies": count,
        "coupled_frequencies": coupled,
    }


def _embeddings(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in reference.items() if name.endswith(".emb")}


def _frequencies(reference: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our frequencies: (F, 2) of y and x, or the authors' (2F, 2) where they are coupled."""
    alignment = "model.sem_seg_head.alignment"
    if settings[f"{alignment}.encoding"] == "coord":
        return {}
    count = settings[f"{alignment}.num_frequencies"]
    coupled = settings[f"{alignment}.coupled_frequencies"]
    initial = PositionEncoding(encoding="fixed", num_frequencies=count).frequencies
    state = {}
    for i in range(len(_LEVELS)):
        value = reference.get(f"decoder.ifa.pos{i + 1}.emb", initial)
        if value is not initial and not coupled:
            value = torch.stack([value[:count, 0], value[count:, 1]], dim=1)
        state[f"sem_seg_head.alignment.encodings.{i}.frequencies"] = value.clone()
    return state
