"""Folder of finished blocks beside an output, by which a run that was killed goes on.

A block is finished when its file has its name, which it gets whole.
"""

import hashlib
import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import atomic_path

_PLAN = "plan.json"


def journal_folder(output: Path) -> Path:
    """Return the folder of an output's finished blocks."""
    return output.with_name(f".{output.name}.parts")


def block_file(folder: Path, index: int) -> Path:
    """Return the file of a block's labels."""
    return folder / f"block_{index:06d}.tif"


def open_journal(folder: Path, plan: dict[str, Any], *, resume: bool) -> None:
    """Begin a folder of blocks, or go on with one.

    Args:
        folder: there or not.
        plan: all that labels depend on, in JSON's types.
        resume: go on where there is one.

    Raises:
        ValueError: there is one, and it is not to be gone on with, or is of another plan.
    """
    path = folder / _PLAN
    count = sum(1 for _ in folder.glob("block_*.tif"))
    if not count or not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(plan, indent=1) + "\n")
        return
    if not resume:
        raise ValueError(
            f"{folder} holds {count} blocks of a run that was not finished: go on with --resume "
            "(resume=True), or remove the folder"
        )
    held = json.loads(path.read_text())
    for key in {**plan, **held}:
        if held.get(key) != plan.get(key):
            raise ValueError(
                f"{folder} holds {count} blocks of another run, whose {key} was {held.get(key)}, "
                f"and is {plan.get(key)} now: give the same, or remove the folder"
            )


def model_digest(model: nn.Module) -> str:
    """Compute a number of a model's layers and weights that another model does not share."""
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(model))  # addresses are of one process
    digest = hashlib.sha256(layers.encode())
    for name, value in chain(model.named_parameters(), model.named_buffers()):
        digest.update(name.encode())
        content = value.detach().cpu().contiguous().flatten()
        digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
