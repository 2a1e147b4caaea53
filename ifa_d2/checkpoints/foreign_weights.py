"""Weights files of other projects: read, and put under the names that a model has.

A training may start from what timm, torchvision, lightning, ``torch.compile`` or a data-parallel
wrapper wrote. Such files differ in where the table of weights lies in them and in what stands in
front of its names; the tensors are the same.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from .imagenet import convert_imagenet_state_dict

# Where files keep their table of weights, if it is not the whole file.
_TABLES = ("model", "state_dict", "model_state_dict", "model_state")
# What wrappers put in front of every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "encoder.", "backbone.")
# Where a model of this package, or of Detectron2, has the network that was pretrained.
_PLACES = ("", "backbone.", "backbone.net.", "backbone.bottom_up.", "backbone.bottom_up.net.")
# How torch begins the report of a type that it does not load.
_BLOCKED = re.compile(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)")


def read_weights_file(path: str) -> dict[str, Any]:
    """Read a file of tensors and plain types.

    Args:
        path: a ``.safetensors`` file, or one that ``torch.save`` wrote.

    Returns:
        The file's entries, the table of weights below ``"model"``.

    Raises:
        ValueError: the file is damaged, is none, or holds a type that may run code when it is
            loaded; the message names that type and how to go on.
    """
    try:
        if path.endswith(".safetensors"):
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = _BLOCKED.search(str(error))
        if blocked is None:
            raise ValueError(f"{path} is damaged or is no checkpoint") from error
        raise ValueError(
            f"{path} holds a {blocked[1]} beside its weights, which is not loaded, because files "
            "may run code that way: if you trust where it is from, keep its weights alone, "
            f"`python -c \"import torch; w = torch.load('{path}', weights_only=False); "
            "torch.save({'model': w['model']}, 'weights.pth')\"`, or whatever it calls them"
        ) from error
    except Exception as error:  # anything, from IndexError to OSError without a name
        raise ValueError(f"{path} is damaged or is no checkpoint") from error
    table = next((name for name in _TABLES if _is_table(content, name)), None)
    if table is None:
        content, table = {"model": content}, "model"
    content["model"] = content.pop(table)
    weights = content["model"]
    if not isinstance(weights, Mapping):
        raise ValueError(f"{path} is no checkpoint: it holds no table of weights")
    wrong = [name for name, value in weights.items() if not _is_weight(name, value)]
    if wrong:
        raise ValueError(
            f"{path} is no checkpoint: {wrong[0]!r} in its table of weights is no dense tensor"
        )
    return content


def _is_table(content: Any, name: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(name), Mapping)


def _is_weight(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.is_meta
    return isinstance(value, np.ndarray)


def rename_weights(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights under the names by which most of them fit a model.

    Names are tried as they are; without what wrappers put in front of all of them; in the places
    where models have their backbone; as timm's feature extractors write them; and, of ResNets, as
    Detectron2 has what torchvision, timm, OpenMMLab or PSPNet name otherwise. The names as they
    are win a tie.
    """
    needed = {name: value.shape for name, value in model.named_parameters()}

    def fitting(named: Mapping[str, Tensor]) -> int:
        return sum(
            value.numel() for name, value in named.items() if needed.get(name) == value.shape
        )

    return dict(max(_renamings(weights, needed), key=fitting))


def _renamings(
    weights: Mapping[str, Tensor], needed: Mapping[str, Any]
) -> Iterator[Mapping[str, Tensor]]:
    yield weights
    bare = dict(weights)
    while prefix := next((p for p in _PREFIXES if bare and all(n.startswith(p) for n in bare)), ""):
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    names = {_dotted(name): name for name in needed}
    for place in _PLACES:
        placed = {f"{place}{name}": value for name, value in bare.items()}
        yield {names.get(_dotted(name), name): value for name, value in placed.items()}
    try:
        converted = convert_imagenet_state_dict(bare).state
    except (ValueError, AttributeError, KeyError):
        return  # no ResNet
    for place in _PLACES[1:]:
        yield {f"{place}{name}": value for name, value in converted.items()}


def _dotted(name: str) -> str:
    """A name with timm's ``stages_0.`` of a feature extractor as its classifier's ``stages.0.``."""
    return re.sub(r"([a-z])_(\d+)\.", r"\1.\2.", name)
