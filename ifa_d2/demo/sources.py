"""Pictures by name, glob, folder or data set, decoded ahead of their use."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ..data.folders import files_below
from ..engine.inputs import choose_records

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
WRITTEN_VIDEO_SUFFIXES = (".webm", ".mp4", ".mkv", ".mov", ".avi")
_OTHER_VIDEO_SUFFIXES = (".3gp", ".flv", ".ogv", ".ts", ".wmv")
SHEET_NAME = "sheet"  # of the drawing of all pictures of a data set, which no picture has

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Picture:
    """A picture to segment.

    Attributes:
        path: of its file.
        name: of its drawing, without suffix; with "/" where it came from a folder's sub-folder.
        label: a record with its ground truth, of which `sem_seg_file_name` is the file; or None.
    """

    path: str
    name: str
    label: Mapping[str, Any] | None = None


def is_image(path: str) -> bool:
    """Tell whether a name ends in a picture's suffix."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def is_video(path: str) -> bool:
    """Tell whether a name ends in a film's suffix."""
    return path.lower().endswith(VIDEO_SUFFIXES)


def check_output_name(path: str) -> None:
    """Check that an output's name does not end as a kind of file that is not written.

    Raises:
        ValueError: it does, such as a .gif; pictures, films and folders are written.
    """
    suffix = os.path.splitext(path)[1].lower()
    known = {*IMAGE_SUFFIXES, *WRITTEN_VIDEO_SUFFIXES}
    others = {*Image.registered_extensions(), *VIDEO_SUFFIXES, *_OTHER_VIDEO_SUFFIXES} - known
    if suffix in others and not os.path.isdir(path):
        raise ValueError(
            f"output {path} cannot be written as {suffix}: a film can be one of "
            f"{', '.join(WRITTEN_VIDEO_SUFFIXES)}, a picture .png or .jpg; other names are folders"
        )


def find_pictures(inputs: Sequence[str]) -> list[Picture]:
    """Find the pictures of files, glob patterns and folders, and name each differently.

    A folder stands for the pictures in it and below, by their suffixes, without hidden ones. Names
    that are there already get -2, -3 and so on.

    Raises:
        FileNotFoundError: a file does not exist, a pattern fits none, or a folder has no pictures.
        OSError: a folder that cannot be listed.
    """
    found = []
    for item in inputs:
        if os.path.isdir(item):
            inside = _pictures_below(Path(item))
            if not inside:
                suffixes = ", ".join(IMAGE_SUFFIXES)
                raise FileNotFoundError(f"no pictures in the folder {item} ({suffixes})")
            found += inside
        elif os.path.isfile(item):
            found.append(Picture(item, Path(item).stem))
        else:
            paths = sorted(filter(_is_named_picture, glob.glob(item, recursive=True)))
            if not paths:
                kind = "nothing fits" if glob.has_magic(item) else "there is no file"
                raise FileNotFoundError(f"{kind} {item}")
            found += [Picture(path, Path(path).stem) for path in paths]
    return _name_apart(found)


def label_pictures(pictures: Sequence[Picture], labels: Sequence[str]) -> list[Picture]:
    """Pair pictures with their ground truth, in order.

    Raises:
        FileNotFoundError: a label file does not exist.
        ValueError: not as many labels as pictures.
    """
    if len(labels) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures, but {len(labels)} labels")
    for path in labels:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}")
    records = [{"sem_seg_file_name": path} for path in labels]
    return [replace(one, label=record) for one, record in zip(pictures, records, strict=True)]


def dataset_pictures(name: str, num: int) -> list[Picture]:
    """Choose ``num`` evenly spread pictures of a data set, with ground truth if it has any.

    Raises:
        ValueError: no such data set, or ``num`` below 1.
    """
    return _name_apart(
        [
            Picture(
                one["file_name"],
                Path(one["file_name"]).stem,
                one if one.get("sem_seg_file_name") else None,
            )
            for one in choose_records(name, num)
        ],
        taken={SHEET_NAME},
    )


def _pictures_below(folder: Path) -> list[Picture]:
    paths = filter(is_image, files_below(folder, follow_links=False))
    found = map(Path, filter(_is_named_picture, paths))
    return [
        Picture(str(path), path.relative_to(folder).with_suffix("").as_posix())
        for path in sorted(found)
    ]


def _is_named_picture(path: str) -> bool:
    """Tell whether a name is a file's; a broken link counts, so that reading it explains it."""
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _name_apart(pictures: Sequence[Picture], taken: Iterable[str] = ()) -> list[Picture]:
    taken = set(taken)
    apart = []
    for picture in pictures:
        name, count = picture.name, 1
        while name in taken:
            count += 1
            name = f"{picture.name}-{count}"
        taken.add(name)
        apart.append(replace(picture, name=name))
    return apart


def decode_ahead(
    jobs: Iterable[Job], decode: Callable[[Job], Result], *, workers: int = 2, ahead: int = 4
) -> Iterator[tuple[Job, Result | Exception]]:
    """Decode jobs in threads, ahead of their use; yields each with its result, in order.

    Args:
        jobs: read as needed.
        decode: called in a thread. A ValueError or OSError that it raises is given as the result.
        workers: threads.
        ahead: results held beyond the one that is used.

    Raises:
        ValueError: ``workers`` or ``ahead`` below 1.
    """
    if workers < 1 or ahead < 1:
        raise ValueError(f"workers and ahead must be at least 1, got {workers} and {ahead}")
    pending: deque[tuple[Job, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                pending.append((job, pool.submit(decode, job)))
                if len(pending) > ahead:
                    yield _wait(*pending.popleft())
            while pending:
                yield _wait(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()


def _wait(job: Job, future: Future[Result]) -> tuple[Job, Result | Exception]:
    try:
        return job, future.result()
    except (ValueError, OSError) as error:
        return job, error
