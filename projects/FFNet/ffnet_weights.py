"""State dicts of the published FFNets, renamed for the models of :func:`ffnet_model`.

A published model has its ResNet, named as torchvision names one, as ``backbone_model``, and in
``head.layers`` the adapters (0), the up-head (1) and the segmentation head (3) or, of the ImageNet
models, a classifier of pictures (2).
"""

from collections.abc import Iterator, Mapping

import torch
from detectron2.config import instantiate
from ffnet_backbone import VARIANTS
from ffnet_family import FFNetName, ffnet_model, parse_name
from torch import Tensor, nn

from ifa_d2.listing import join_some

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_COUNTER = "num_batches_tracked"
_NAMED = 5  # how many tensors an error lists
# Of the fixed blur, which has no weights here, and of what the ImageNet models alone have.
_BLUR, _PICTURES = "smoothing.", "head.layers.2."
_BACKBONE = "backbone_model."
_HEAD = "sem_seg_head"
_DENSE = f"{_HEAD}.levels.dense_alignment"
_CLASSIFIER = f"{_HEAD}.alignment.predictor"
# Strides of the levels, in the names of the up-head's convolutions.
_STRIDES = (4, 8, 16, 32)


def convert_ffnet_state_dict(source: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the tensors of a published model.

    Of an ImageNet model the backbone alone is taken, as its authors advise: the up-head starts
    anew. A backbone whose first stage has a stride then lacks that stage's shortcut, which
    ImageNet models do not have.

    Args:
        source: names and tensors; ``module.`` before all names is taken off.
        name: of the model that they are for, see :func:`ffnet_family.parse_name`. Tensors do not
            tell it: models that differ in "mobile", or of bottlenecks in "d", have the same.

    Returns:
        Tensors by their names in that model.

    Raises:
        ValueError: an unknown name, or tensors that are missing, unknown or of another shape; the
            message names them.
    """
    parts = parse_name(name)
    prefix = "module."
    if source and all(key.startswith(prefix) for key in source):
        source = {key.removeprefix(prefix): value for key, value in source.items()}
    of_pictures = any(key.startswith(_PICTURES) for key in source)
    renames = dict(_backbone_names(parts) if of_pictures else _names(parts))
    ours = {key: value.shape for key, value in _build(name, source, renames).state_dict().items()}
    if of_pictures and parts.stride2_first and not VARIANTS[parts.variant].bottleneck:
        fresh = f"{_BACKBONE}layer1.0.downsample."
        renames = {theirs: own for theirs, own in renames.items() if not theirs.startswith(fresh)}
    renames = {theirs: own for theirs, own in renames.items() if own in ours}
    skipped = (_BLUR, "head.") if of_pictures else (_BLUR,)
    state = {
        renames[key]: _shaped(renames[key], value)
        for key, value in source.items()
        if key in renames
    }
    faults = {
        "missing": [k for k in renames if k not in source and not k.endswith(_COUNTER)],
        "unknown": [k for k in source if k not in renames and not k.startswith(skipped)],
        "of another shape": [
            f"{theirs} {tuple(source[theirs].shape)}"
            for theirs, own in renames.items()
            if own in state and state[own].shape != ours[own]
        ],
    }
    said = [f"{what} {join_some(keys, _NAMED)}" for what, keys in faults.items() if keys]
    if said:
        raise ValueError(f"not the tensors of FFNet {name}: {'; '.join(said)}")
    return state


def count_classes(state: Mapping[str, Tensor]) -> int | None:
    """Count the classes of a converted state dict; None of a backbone alone."""
    bias = state.get(f"{_CLASSIFIER}.bias")
    return None if bias is None else len(bias)


def _build(name: str, source: Mapping[str, Tensor], renames: Mapping[str, str]) -> nn.Module:
    """The model on meta, with as many classes as the source has."""
    biases = [theirs for theirs, own in renames.items() if own == f"{_CLASSIFIER}.bias"]
    found = [len(source[key]) for key in biases if key in source and source[key].dim() == 1]
    model = ffnet_model(name)
    model.sem_seg_head.num_classes = next((count for count in found if count), 1)
    with torch.device("meta"):
        return instantiate(model)


def _shaped(own: str, value: Tensor) -> Tensor:
    """A copy, of the classifier as one of the columns of its cells."""
    if own == f"{_CLASSIFIER}.weight":
        return value.flatten(1)[..., None, None].clone()
    return value.clone()


# -- their names and ours


def _names(name: FFNetName) -> Iterator[tuple[str, str]]:
    yield from _backbone_names(name)
    for index, level in enumerate(("res2", "res3", "res4", "res5")):
        yield from _unit(
            f"head.layers.0.adapter_conv.{index}.layers", f"{_HEAD}.levels.projections.{level}"
        )
    for index, stride in enumerate(_STRIDES):
        theirs = f"head.layers.1.fam_{stride}"
        yield from _unit(
            f"{theirs}_sm.layers" if index else f"{theirs}.layers", f"{_DENSE}.smooth.{index}"
        )
        if index:
            yield from _unit(f"{theirs}_up.layers", f"{_DENSE}.reduce.{index - 1}")
    last = "head.layers.3.last_layer"
    yield from _unit(last, f"{_DENSE}.hidden")
    yield f"{last}.0.bias", f"{_DENSE}.hidden.bias"
    for part in ("weight", "bias"):
        yield f"{last}.3.{part}", f"{_CLASSIFIER}.{part}"


def _backbone_names(name: FFNetName) -> Iterator[tuple[str, str]]:
    variant = VARIANTS[name.variant]
    stem = "backbone.stem.stem" if name.pre_down else "backbone.stem"
    if variant.stem == "A":
        yield from _unit(f"{_BACKBONE}conv1", f"{stem}.conv1", f"{_BACKBONE}bn1")
    else:
        for index in range(2):
            yield from _unit(
                f"{_BACKBONE}conv{index}", f"{stem}.convs.{index}", f"{_BACKBONE}bn{index}"
            )
    first = 2
    if variant.stem == "C":  # whose stem has the first feature
        first = 3
        yield from _unit(f"{_BACKBONE}conv2", "backbone.res2.0.convs.0", f"{_BACKBONE}bn2")
    for stage, count in enumerate(variant.blocks):
        for block in range(count):
            theirs, own = (
                f"{_BACKBONE}layer{stage + 1}.{block}",
                f"backbone.res{stage + first}.{block}",
            )
            for conv in (1, 2, 3) if variant.bottleneck else (1, 2):
                yield from _unit(f"{theirs}.conv{conv}", f"{own}.conv{conv}", f"{theirs}.bn{conv}")
            yield from _unit(f"{theirs}.downsample", f"{own}.shortcut")


def _unit(theirs: str, own: str, norm: str = "") -> Iterator[tuple[str, str]]:
    """Convolution and norm; without a name for it, these are the first two of a sequence."""
    conv, norm = (theirs, norm) if norm else (f"{theirs}.0", f"{theirs}.1")
    yield f"{conv}.weight", f"{own}.weight"
    yield from ((f"{norm}.{part}", f"{own}.norm.{part}") for part in _NORM)
