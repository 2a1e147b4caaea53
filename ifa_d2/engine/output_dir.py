"""Output directories: one training in each, and a folder of its own for each evaluation."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ..listing import join_some

_NAME = ".lock"
# Files of a run that another would replace.
_KEPT = re.compile(
    r"model_(\d{7}|final|best)\.pth|last_checkpoint|metrics\.json|sem_seg_evaluation\.json"
)
_EVALUATION = "inference"  # as Detectron2's users call its folder
# Temporary files of ifa_d2.files.atomic_path: of a process, by its number.
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


def default_output_dir(recipe: str) -> str:
    """Output directory of a run of a recipe such as ``"camvid/ifa_r18"``."""
    return os.path.join(".", "output", recipe)


def check_no_run(output_dir: str | os.PathLike[str]) -> None:
    """Check that a new training would replace nothing of an earlier one.

    Raises:
        ValueError: the folder holds checkpoints, metrics or an evaluation.
    """
    folder = Path(output_dir)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    held = [path.name for path in files if _KEPT.fullmatch(path.name) and path.stat().st_size]
    if held:
        held.sort(key=lambda name: "_0" in name)  # numbered checkpoints last
        raise ValueError(
            f"output directory {folder} holds a run already ({join_some(held, 4)}), which a new "
            "training would replace: continue it with --resume (resume_or_load(resume=True) in "
            "Python), or name another folder with train.output_dir (OUTPUT_DIR in a .yaml)"
        )


def new_evaluation_dir(output_dir: str | os.PathLike[str]) -> Path:
    """Make a folder for an evaluation: ``inference``, or ``inference_2`` and so on.

    Returns:
        A folder in the output directory that was not there before.
    """
    for number in count(1):
        folder = Path(output_dir, _EVALUATION if number == 1 else f"{_EVALUATION}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError


@contextmanager
def locked_output(output_dir: str | os.PathLike[str], *, enabled: bool = True) -> Iterator[None]:
    """Hold an output directory for a training; temporary files of a killed one are removed.

    The lock is the system's, which frees it when the process ends, however it does.

    Args:
        output_dir: a folder, made if it is not there.
        enabled: False holds nothing.

    Raises:
        ValueError: another training holds it; the message says which process.
    """
    if not enabled:
        yield
        return
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(
                f"output directory {folder} is in use by a training ({holder}): wait for it, end "
                "it, or name another with train.output_dir (OUTPUT_DIR in a .yaml)"
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _remove_leftovers(folder)
        try:
            yield
        finally:
            file.truncate(0)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
