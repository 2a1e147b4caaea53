"""Description of a published data set and of the conversion of its labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_NAMED = 10  # how many files an error lists


@dataclass(frozen=True)
class Source:
    """Folder or file of the published data set.

    Fields:
        path: below the root of all data sets
        origin: address of its download
    """

    path: str
    origin: str


@dataclass(frozen=True)
class Job:
    """A label file to make.

    Fields:
        split: "train", "val" or "test"
        image: the picture that the model reads
        source: the annotation as published
        label: the file to make
        image_source: the picture as published, if `image` is a copy of it
        others: further files that must be there in the end
    """

    split: str
    image: Path
    source: Path
    label: Path
    image_source: Path | None = None
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Preparation:
    """Conversion of one data set's labels.

    Fields:
        name: name of the data set in messages
        counts: images of each split as published
        num_classes: ids of the labels are below it, or are `ignore_label`
        ignore_label: the id that means "no class here"
        sources: folders and files that must be there
        label_root: the folder of all label files, below the root, which appears under its name
            when it is complete; None if labels lie among the published files
        list_jobs: lists the jobs of (root, label folder), sorted; raises ValueError for files
            without partner
        read: makes the contents of a job's files: pixels, or the path of a file to copy
    """

    name: str
    counts: Mapping[str, int]
    num_classes: int
    ignore_label: int
    sources: tuple[Source, ...]
    label_root: str | None
    list_jobs: Callable[[Path, Path], list[Job]]
    read: Callable[[Job], dict[Path, np.ndarray | Path]]


def check_sources(preparation: Preparation, root: Path) -> None:
    """Raise unless all published folders and files are there.

    Raises:
        ValueError: something is missing; the message names it and its download.
    """
    missing = [source for source in preparation.sources if not (root / source.path).exists()]
    if missing:
        width = max(len(source.path) for source in missing)
        lines = [f"  {source.path:{width}}  from {source.origin}" for source in missing]
        lines += _above(missing, root)
        raise ValueError(
            "\n".join([f"{preparation.name} is not complete, missing in {root} are", *lines])
        )


def _above(missing: list[Source], root: Path) -> list[str]:
    """Hint for a root that is the data set's folder instead of the one above it."""
    for source in missing:
        folder, *rest = Path(source.path).parts
        if rest and root.joinpath(*rest).exists():
            above = root.parent if root.name == folder else f"one that holds it as {folder}/"
            return [f"{root} is the data set's own folder: ROOT is the folder above it, {above}"]
    return []


def check_partners(name: str, images: Mapping[str, Path], annotations: Mapping[str, Path]) -> None:
    """Raise unless images and annotations are paired by their common names.

    Raises:
        ValueError: files without partner; the message names them.
    """
    lines = []
    for kind, other, ours, theirs in (
        ("image", "annotation", images, annotations),
        ("annotation", "image", annotations, images),
    ):
        alone = [str(ours[stem]) for stem in sorted(ours.keys() - theirs.keys())]
        if alone:
            lines += [f"{len(alone)} {kind}(s) without {other}:", *name_some(alone)]
    if lines:
        raise ValueError("\n".join([f"{name} is not complete; unpack it again:", *lines]))


def check_files(name: str, files: list[Path]) -> None:
    """Raise unless all files that a published list names are there.

    Raises:
        ValueError: files are missing; the message names them.
    """
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        header = f"{name} is not complete; {len(missing)} file(s) of its lists are missing:"
        raise ValueError("\n".join([header, *name_some(missing)]))


def error_text(error: BaseException) -> str:
    """Text of an error with its type; a KeyError is told as a missing key."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, ValueError | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def name_some(lines: list[str]) -> list[str]:
    """Indent the first lines, and count the rest."""
    shown = [f"  {line}" for line in lines[:_NAMED]]
    return shown + [f"  and {len(lines) - _NAMED} more"] * (len(lines) > _NAMED)
