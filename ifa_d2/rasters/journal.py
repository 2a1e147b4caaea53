"""Folder of finished blocks beside an output, by which a run that was killed goes on.

A block is finished when its file has its name, which it gets whole.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

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
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()[:16]
