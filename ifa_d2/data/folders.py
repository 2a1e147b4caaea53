"""Files of a folder of pictures or labels."""

import glob
import os
import re
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


def folders_like(root: str) -> dict[str, str]:
    """List the folders that a path with `*` in it fits, sorted; hidden ones do not count.

    Args:
        root: a folder, or a path in which a `*` stands for a part of a folder's name

    Returns:
        What the stars of each folder stand for, such as "scene1/"; "" for a folder without stars.
    """
    if os.path.isdir(root) or "*" not in root:
        return {root: ""} if os.path.isdir(root) else {}
    star = re.compile("([^/]*)".join(map(re.escape, root.rstrip("/").split("*"))))
    pattern = "*".join(map(glob.escape, root.rstrip("/").split("*")))
    found = {}
    for folder in sorted(filter(os.path.isdir, glob.glob(pattern))):
        found[folder] = "".join(f"{part}/" for part in star.fullmatch(folder).groups())
    return found


def fixed_part(root: str) -> str:
    """Find the folder that holds all folders of `folders_like`."""
    if os.path.isdir(root) or "*" not in root:
        return root
    return os.path.dirname(root.split("*")[0]) or "."


def _raise(error: OSError) -> None:
    raise type(error)(
        f"cannot list the folder {error.filename!r}: {error.strerror}; make it readable, or take "
        "it away"
    ) from error
