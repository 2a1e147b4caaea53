"""Files of a folder of pictures or labels."""

import os
from collections.abc import Iterator


def files_below(root: str | os.PathLike[str], *, follow_links: bool) -> Iterator[str]:
    """Walk a folder and its sub-folders, in the same order on every machine.

    Hidden files and hidden folders are left out: a name that begins with a dot belongs to a
    program's copy (`.ipynb_checkpoints/a.png`) or to a file's attributes (`._a.png`).

    Args:
        root: the folder; it may be hidden itself
        follow_links: whether to go into folders that are linked

    Yields:
        Paths that begin with `root`, broken links and pipes included.

    Raises:
        OSError: a folder cannot be listed; its files would be missed.
    """
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=follow_links):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(folder, name)


def _raise(error: OSError) -> None:
    raise type(error)(
        f"cannot list the folder {error.filename!r}: {error.strerror}; make it readable, or take "
        "it away"
    ) from error
