"""One training at a time in an output directory."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = ".lock"
# Temporary files of ifa_d2.files.atomic_path: of a process, by its number.
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


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
