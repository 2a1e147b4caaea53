"""State dicts of ImageNet classifiers, renamed for the ResNets of :func:`build_resnet`.

ResNets named as torchvision names them are understood, with the deep stems of timm
(``resnet18d``, ``resnet50s``), of OpenMMLab (``resnet18_v1c``) and of the scene parsing code of
MIT and of PSPNet (``conv1`` to ``conv3``).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..modeling.backbone import BLOCKS_PER_STAGE, build_resnet

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Convolution and norm of each layer of a stem, by who names them so.
_STEMS = {
    "timm": (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")),
    "OpenMMLab": (("stem.0", "stem.1"), ("stem.3", "stem.4"), ("stem.6", "stem.7")),
    "PSPNet": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "torchvision": (("conv1", "bn1"),),
}
# What comes behind the features.
_CLASSIFIER = ("fc.", "head.", "classifier.")


@dataclass(frozen=True)
class ConvertedBackbone:
    """A converted state dict and the backbone that it is for.

    Attributes:
        state: tensors by their names in the backbone.
        settings: the arguments of :func:`build_resnet` that the tensors tell.
    """

    state: dict[str, Tensor]
    settings: dict[str, Any]


def convert_imagenet_state_dict(source: Mapping[str, Tensor]) -> ConvertedBackbone:
    """Rename the tensors of an ImageNet classifier, and drop its classifier.

    Args:
        source: names and tensors; ``module.`` or ``backbone.`` before all names is taken off.

    Raises:
        ValueError: a network that :func:`build_resnet` does not build; the message says which names
            are missing, unknown or of another shape.
    """
    for prefix in ("module.", "backbone."):
        if source and all(name.startswith(prefix) for name in source):
            source = {name.removeprefix(prefix): value for name, value in source.items()}
    depth = _depth(source)
    stem = next(
        (layers for layers in _STEMS.values() if all(f"{c}.weight" in source for c, _ in layers)),
        None,
    )
    if stem is None:
        raise ValueError(f"not a ResNet: none of the stems {_STEMS} is there")
    avg_down = "layer2.0.downsample.1.weight" in source and (
        source["layer2.0.downsample.1.weight"].dim() == 4
    )
    last = source[f"{stem[-1][0]}.weight"]
    settings = {
        "depth": depth,
        "stem_channels": last.shape[0] if len(stem) == 3 else None,
        "avg_down": avg_down,
    }
    renames = dict(_renames(source, stem, depth))
    state = {ours: source[theirs].clone() for theirs, ours in renames.items() if theirs in source}
    unknown = {n for n in source if n not in renames and not n.startswith(_CLASSIFIER)}
    _check(state, settings, unknown)
    return ConvertedBackbone(state, settings)


def _depth(source: Mapping[str, Tensor]) -> int:
    found = (re.match(r"layer(\d)\.(\d+)\.conv1\.weight", name) for name in source)
    places = [(int(match[1]), int(match[2])) for match in found if match]
    counts = tuple(sum(stage == number for stage, _ in places) for number in (1, 2, 3, 4))
    bottlenecks = "layer1.0.conv3.weight" in source
    for depth, blocks in BLOCKS_PER_STAGE.items():
        if blocks == counts and (depth >= 50) == bottlenecks:
            return depth
    kind = "bottlenecks" if bottlenecks else "basic blocks"
    raise ValueError(
        f"not a ResNet of depth {sorted(BLOCKS_PER_STAGE)}: it has {counts} {kind} in its stages"
    )


def _renames(
    source: Mapping[str, Tensor], stem: tuple[tuple[str, str], ...], depth: int
) -> Iterator[tuple[str, str]]:
    """Their name and ours, for each tensor there may be."""
    for index, (conv, norm) in enumerate(stem, start=1):
        yield from _unit(conv, norm, f"stem.conv{index}")
    for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[depth], start=1):
        for block in range(num_blocks):
            theirs, ours = f"layer{stage}.{block}", f"res{stage + 1}.{block}"
            for conv in (1, 2) if depth < 50 else (1, 2, 3):
                yield from _unit(f"{theirs}.conv{conv}", f"{theirs}.bn{conv}", f"{ours}.conv{conv}")
            # A pooling layer, which has no tensors, may come first.
            first = 0 if f"{theirs}.downsample.0.weight" in source else 1
            conv, norm = (f"{theirs}.downsample.{first + i}" for i in (0, 1))
            yield from _unit(conv, norm, f"{ours}.shortcut")


def _unit(conv: str, norm: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{conv}.weight", f"{ours}.weight"
    yield from ((f"{norm}.{part}", f"{ours}.norm.{part}") for part in _NORM)


def _check(state: Mapping[str, Tensor], settings: Mapping[str, Any], unknown: set[str]) -> None:
    with torch.device("meta"):
        model = build_resnet(norm="BN", **settings)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    needed = {name for name in shapes if not name.endswith("num_batches_tracked")}
    wrong = {
        f"{name} {tuple(state[name].shape)}"
        for name in state
        if name not in shapes or state[name].shape != shapes[name]
    }
    faults = {"missing": needed - set(state), "unknown": unknown, "of another shape": wrong}
    found = [
        f"{what} {', '.join(sorted(names)[:5])}{' ...' if len(names) > 5 else ''}"
        for what, names in faults.items()
        if names
    ]
    if found:
        raise ValueError(f"not the ResNet-{settings['depth']} it seems: {'; '.join(found)}")
