"""Lists of the pictures of a data set: names in a text file, or pairs of files in a CSV."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence

from detectron2.utils.file_io import PathManager

LIST_SUFFIXES = (".txt", ".csv")
_IMAGE, _LABEL = "image", "label"  # columns


def read_names(path: str, suffixes: Sequence[str], known: Iterable[str]) -> list[str]:
    """Read a text file of one picture's name a line, as PASCAL VOC's ImageSets.

    Args:
        path: of the list; empty lines are passed over
        suffixes: endings of image files, which a name may have or not
        known: names of the images that are there, without suffix

    Returns:
        Names without suffix, in the order of the list.

    Raises:
        FileNotFoundError: there is no list.
        ValueError: a name that no image has, a name twice, or none; the message has the line.
    """
    known, lines = set(known), {}
    for number, text in enumerate(_read(path).splitlines(), 1):
        name = text.strip()
        if not name:
            continue
        stem = next((name[: -len(end)] for end in suffixes if name.lower().endswith(end)), name)
        stem = name if name in known else stem
        if stem not in known:
            raise ValueError(
                f"list {path!r} names {name!r} in line {number}, but there is no such image: a "
                "line has the path of one image below the image folder, with its suffix or without"
            )
        if stem in lines:
            raise ValueError(
                f"list {path!r} names {name!r} in line {lines[stem]} and again in line {number}: "
                "remove one"
            )
        lines[stem] = number
    if not lines:
        raise ValueError(f"list {path!r} names no image")
    return list(lines)


def read_pairs(path: str, image_root: str, label_root: str | None) -> dict[str, tuple]:
    """Read a CSV of images and labels, with the columns `image` and `label`.

    Args:
        path: of the table, in UTF-8; further columns do not count
        image_root: folder that the paths of images are relative to
        label_root: likewise; None for images without labels, and then there is no such column

    Returns:
        (image, label) paths by the image's path as it is written, without suffix.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: a column is missing, a cell is empty, a file is not there, or an image is there
            twice; the message has the line.
    """
    roots = {_IMAGE: image_root} | ({} if label_root is None else {_LABEL: label_root})
    reader = csv.DictReader(_read(path).splitlines(), skipinitialspace=True)
    for column in roots:
        if column not in (reader.fieldnames or ()):
            raise ValueError(
                f"table {path!r} has no column {column!r}: its first line must name the columns "
                f"{' and '.join(roots)}, got {', '.join(reader.fieldnames or ()) or 'nothing'}"
            )
    pairs: dict[str, tuple] = {}
    for row in reader:
        line = f"table {path!r}, line {reader.line_num}"
        files = [_file(row, column, root, line) for column, root in roots.items()]
        name = os.path.splitext(row[_IMAGE].strip())[0]
        if name in pairs:
            raise ValueError(f"{line}: the image {row[_IMAGE]!r} was in a line before: remove one")
        pairs[name] = (files[0], files[1] if len(files) > 1 else None)
    if not pairs:
        raise ValueError(f"table {path!r} has no line below its columns' names")
    return pairs


def _file(row: Mapping[str, str | None], column: str, root: str, line: str) -> str:
    text = (row[column] or "").strip()
    if not text:
        raise ValueError(f"{line}: the column {column!r} is empty: write the path of a file there")
    path = os.path.join(root, text)
    if not os.path.isfile(path):
        raise ValueError(f"{line}: there is no {column} {path!r}")
    return path


def _read(path: str) -> str:
    """Read a text, with or without a byte order mark."""
    try:
        with PathManager.open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"list {path!r} is not UTF-8: {error}; save it as UTF-8") from error
