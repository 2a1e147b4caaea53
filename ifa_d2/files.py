"""Safe writing of files: complete or not at all, and never over an input."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, renamed to ``path`` when the block ends without an error.

    An error removes the temporary file and leaves ``path`` unchanged. Parent folders are made. The
    error of a full or failing disk names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _DISK_ERRORS and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_outputs(
    outputs: Iterable[str | os.PathLike[str]],
    inputs: Mapping[str, Iterable[str | os.PathLike[str] | None]],
) -> None:
    """Check that no output file is an input file.

    Files are compared by identity, links followed, not by name.

    Args:
        outputs: files to write, there or not.
        inputs: files that are read, by kind ("label"), read as needed; None and names of no
            file here, such as addresses, are passed over.

    Raises:
        ValueError: an output is an input; the message names both.
    """
    written = {key: path for path in outputs if (key := _identity(path)) is not None}
    if not written:  # a file that is not there yet is no input
        return
    for kind, paths in inputs.items():
        for path in paths:
            same = written.get(_identity(path)) if path else None
            if same is not None:
                raise ValueError(
                    f"output {os.fspath(same)} would replace the {kind} {os.fspath(path)}, which "
                    "is read: name another file or folder"
                )


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Device and inode of a file, which all its names share; None without a file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
