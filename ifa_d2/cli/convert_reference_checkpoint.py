"""The work of ``tools/convert_reference_checkpoint.py``."""

import argparse
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..checkpoints.reference import convert_reference_state_dict
from ..config import called_by, get_config
from ..files import atomic_path, check_outputs


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The authors' ``model_state``.

    Raises:
        ValueError: a file that is not a checkpoint, or not one of the authors'.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a checkpoint of tensors") from error
    state = checkpoint.get("model_state") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        found = sorted(checkpoint) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(f"{path} must hold a dictionary under 'model_state', found {found}")
    return state


def write_checkpoint(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write Detectron2's form of a checkpoint."""
    with atomic_path(path) as temporary:
        torch.save({"model": state, "__author__": "the authors' code of IFA"}, temporary)


def needed_overrides(settings: dict[str, Any], recipe: DictConfig) -> list[str]:
    """Overrides for the settings that ``recipe`` does not have already."""
    overrides = []
    for key, value in settings.items():
        default = OmegaConf.select(recipe, key, default=_default(recipe, key))
        default = list(default) if isinstance(default, tuple | ListConfig) else default
        if default != value:
            overrides.append(f"{key}={json.dumps(value, separators=(',', ':'))}")
    return overrides


def _default(recipe: DictConfig, key: str) -> Any:
    """The default of an argument that the recipe does not give to what it builds."""
    parent, _, name = key.rpartition(".")
    target = called_by(OmegaConf.select(recipe, parent))
    parameter = inspect.signature(target).parameters.get(name)
    return None if parameter is None else parameter.default


def run(args: argparse.Namespace) -> None:
    """Convert, and say what a recipe needs to load the result."""
    if args.output.suffix != ".pth":  # Detectron2 takes others for other formats
        raise ValueError(f"OUT.pth must end in .pth, got {args.output}")
    check_outputs([args.output], {"weights": [args.input]})
    converted = convert_reference_state_dict(read_checkpoint(args.input))
    write_checkpoint(converted.state, args.output)
    overrides = needed_overrides(converted.settings, get_config(converted.recipe))
    print(f"wrote {len(converted.state)} tensors to {args.output}")
    print(" ".join([f"load it with configs/{converted.recipe}", *overrides]))
