"""The work of ``tools/convert_imagenet_checkpoint.py``."""

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.file_io import PathManager
from torch import Tensor

from ..checkpoints.imagenet import convert_imagenet_state_dict
from ..files import atomic_path, check_outputs

_TIMM = "timm:"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_weights(source: str) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The tensors of a source, and the overrides for its way to normalise pictures.

    Raises:
        OSError: a file that is not there or cannot be downloaded.
        ValueError: a file that is no checkpoint of tensors.
    """
    if source.startswith(_TIMM):
        return _read_timm(source.removeprefix(_TIMM))
    path = PathManager.get_local_path(source)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{source} is not a checkpoint of tensors") from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{source} is not a checkpoint of tensors")
    return state, {}


def _read_timm(name: str) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    import timm  # only here: other sources do without it

    try:
        model = timm.create_model(name, pretrained=True)
    except RuntimeError as error:
        raise ValueError(f"timm has no weights {name!r}: {error}") from error
    overrides = {}
    for key, default, override in (("mean", _MEAN, "pixel_mean"), ("std", _STD, "pixel_std")):
        value = tuple(model.pretrained_cfg[key])
        if value != default:
            overrides[f"model.{override}"] = [round(255 * part, 3) for part in value]
    return model.state_dict(), overrides


def needed_overrides(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a recipe that builds the backbone of these weights.

    The paper's networks, which the recipes have, need none.
    """
    defaults = {"stem_channels": 64 if settings["depth"] < 50 else 128, "avg_down": False}
    changed = {key: settings[key] for key in defaults if settings[key] != defaults[key]}
    return {f"model.backbone.{key}": value for key, value in changed.items()}


def write_checkpoint(state: Mapping[str, Tensor], path: Path, author: str) -> None:
    """Write Detectron2's form of a checkpoint, of a model's backbone alone."""
    model = {f"backbone.{name}": value for name, value in state.items()}
    with atomic_path(path) as temporary:
        torch.save({"model": model, "__author__": author}, temporary)


def run(args: argparse.Namespace) -> None:
    """Convert, and say what a recipe needs to load the result."""
    if args.output.suffix != ".pth":  # Detectron2 takes others for other formats
        raise ValueError(f"OUT.pth must end in .pth, got {args.output}")
    check_outputs([args.output], {"weights": [args.input]})
    source, overrides = read_weights(args.input)
    converted = convert_imagenet_state_dict(source)
    write_checkpoint(converted.state, args.output, args.input)
    overrides |= needed_overrides(converted.settings)
    print(f"wrote {len(converted.state)} tensors to {args.output}")
    depth = converted.settings["depth"]
    items = [f"{key}={json.dumps(value)}".replace(" ", "") for key, value in overrides.items()]
    start = f"train a recipe of R-{depth} with train.init_checkpoint={args.output}"
    print(" ".join([start, *items]))
