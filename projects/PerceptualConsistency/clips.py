"""Registered data sets as clips: frames in order, without gaps."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ifa_d2.data.catalog import check_name
from ifa_d2.listing import join_some

_NAMED = 3  # how many an error lists
# A frame's name: the last number in it, which is the file's and not a folder's, is the frame's.
_NAME = re.compile(r"(.*?)(\d+)([^\d/]*)")

Record = Mapping[str, Any]


def order_clip(records: Sequence[Record], source: str, prefix: str = "") -> list[Record]:
    """Order the frames of a clip by the last number in their names.

    A name is the path below the folder that all files have in common, without suffix. Numbers may
    be any fixed step apart, such as those of every second frame of a film.

    Args:
        records: of a data set, with ``file_name``.
        source: the data set's name, for errors.
        prefix: take the frames alone whose names begin so, such as "drive3/" or "aachen_".

    Raises:
        ValueError: fewer than two frames, a name without a number, frames of several clips, a
            number twice, or a gap. The message names some.
    """
    frames: dict[int, Record] = {}
    clips: dict[str, None] = {}
    for name, record in zip(_names(records), records, strict=True):
        if not name.startswith(prefix):
            continue
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(
                f"frames of {source!r} must have a number in their files' names, got {name}"
            )
        clips[f"{found[1]}*{found[3]}"] = None
        number = int(found[2])
        if len(clips) == 1 and number in frames:
            raise ValueError(f"two frames of {source!r} are number {number}, such as {name}")
        frames[number] = record
    if len(clips) > 1:
        raise ValueError(
            f"{source!r} holds frames of {len(clips)} clips ({join_some(list(clips), _NAMED)}): "
            "choose one by the prefix of its frames' names"
        )
    if len(frames) < 2:
        raise ValueError(
            f"a clip must have 2 frames or more, but {source!r} has {len(frames)} whose names "
            f"begin with {prefix!r}"
        )
    _check_gaps(sorted(frames), source)
    return [frames[number] for number in sorted(frames)]


def _names(records: Sequence[Record]) -> list[str]:
    """Names of frames, see :func:`order_clip`."""
    paths = [Path(record["file_name"]) for record in records]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [path.relative_to(root).with_suffix("").as_posix() for path in paths]


def _check_gaps(numbers: Sequence[int], source: str) -> None:
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = min(steps)
    gaps = [
        f"{before} to {before + found}"
        for before, found in zip(numbers, steps, strict=False)
        if found != step
    ]
    if gaps:
        raise ValueError(
            f"frames of {source!r} must be {step} apart, as some are, but there are gaps from "
            f"{join_some(gaps, _NAMED)}: it is no clip"
        )


def _ordered(source: str, prefix: str) -> list[Record]:
    return order_clip(DatasetCatalog.get(source), source, prefix)


def register_clip(source: str, prefix: str = "") -> str:
    """Register a data set's frames, in order, as a data set of its own; gives its name.

    A second call with the same arguments changes nothing. Frames are listed once now, so that
    :func:`order_clip` can refuse them.

    Args:
        source: a registered data set.
        prefix: as of :func:`order_clip`.

    Raises:
        ValueError: no such data set, or as :func:`order_clip`.
    """
    check_name(source, "source")
    _ordered(source, prefix)
    name = f"{source}_clip{f'_{prefix}' if prefix else ''}"
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, partial(_ordered, source, prefix))
        known = MetadataCatalog.get(source).as_dict()
        MetadataCatalog.get(name).set(**{key: known[key] for key in known if key != "name"})
    return name
