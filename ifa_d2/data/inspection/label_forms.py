"""Classes of labels in an unknown form, and the arguments that register them."""

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...listing import join_some
from ..parallel import run_parallel
from .appearance import MOST_VALUES, has_colors, label_pixels
from .layout import Layout

_IGNORE = 255
_BACKGROUND = "background"
_COLOR_NAMES = ("labelmap.txt", "class_dict.csv")
_LIST_NAMES = ("class_names.txt", "classes.txt", "labels.txt")
_NAMED = 8  # how many values an error lists
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """Classes of labels and how they are read.

    Fields:
        form: what they are, for a reader
        classes: names in the order of their ids
        options: further arguments of the registration
    """

    form: str
    classes: tuple[str, ...]
    options: Mapping[str, Any]


def find_labels(
    layout: Layout,
    roots: Sequence[str | os.PathLike[str]],
    *,
    class_names: Sequence[str] = (),
    ignore_label: int | None = None,
    workers: int = 1,
) -> Labels:
    """Read all labels of a layout for their values, and tell what they are.

    Args:
        layout: the pairs
        roots: folders in which `classes.txt`, `class_names.txt` or `labels.txt` (a name a line),
            `labelmap.txt` (CVAT's) or `class_dict.csv` (name, r, g, b) may name the classes
        class_names: names instead of these, in the order of ids, sorted values or sorted names
        ignore_label: the value of ids that is ignored; 255 otherwise, where there are other values
            beside 0
        workers: processes

    Raises:
        ValueError: labels of more values than classes have, of one class alone, or more or fewer
            names than there are classes.
    """
    labels = _find(layout, roots, class_names, ignore_label, workers)
    if len(set(labels.classes)) < len(labels.classes):
        raise ValueError(f"classes must have different names, got {', '.join(labels.classes)}")
    return labels


def _find(
    layout: Layout,
    roots: Sequence[str | os.PathLike[str]],
    class_names: Sequence[str],
    ignore_label: int | None,
    workers: int,
) -> Labels:
    if layout.form != "pictures":
        if ignore_label is not None:
            raise ValueError(
                f"ignore_label {ignore_label} is of label pictures, but these are {layout.form}"
            )
        return _of_names(layout, class_names)
    values = _count_values(layout, workers)
    if isinstance(next(iter(values)), tuple):
        if ignore_label is not None:
            raise ValueError(f"ignore_label {ignore_label} is an id, but the labels are of colours")
        return _of_colors(values, roots, class_names)
    return _of_ids(values, tuple(class_names) or _listed_names(roots), ignore_label)


def _scan(path: str) -> tuple[bool, list[int]]:
    pixels = label_pixels(path)
    values = np.unique(pixels)
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"label {path!r} holds {len(values)} different values, too many for classes: is it a "
            "photograph, a mask with soft edges, or of instances? Give the right folder, as IMAGES "
            "LABELS"
        )
    return has_colors(path), values.tolist()


def _count_values(layout: Layout, workers: int) -> Counter:
    """Count the label files in which each id, or each (R, G, B), is."""
    files = [one.label for one in layout.pairs]
    results = list(run_parallel(_scan, files, workers=workers, description="labels", unit="file"))
    counts = {True: Counter(), False: Counter()}
    for colored, values in results:
        counts[colored].update(values)
    if counts[True] and counts[False]:
        grey = next(path for path, (colored, _) in zip(files, results, strict=True) if not colored)
        raise ValueError(f"some labels have colours, but {grey} has ids: save all in one form")
    values = counts[True] or counts[False]
    if len(values) > MOST_VALUES:
        raise ValueError(f"the labels hold {len(values)} different values, too many for classes")
    if counts[True]:
        return Counter({(v >> 16, v >> 8 & 255, v & 255): n for v, n in values.items()})
    return values


def _of_ids(values: Counter, names: tuple[str, ...], ignore_label: int | None) -> Labels:
    found = sorted(values)
    if found == [0, _IGNORE] and ignore_label is None:
        names = names or (_BACKGROUND, "foreground")
        _check_count(names, 2, "masks of 0 and 255")
        return Labels(
            "masks of 0 and 255", names, {"label_values": {0: names[0], _IGNORE: names[1]}}
        )
    ignored = _IGNORE if ignore_label is None else ignore_label
    ids = [value for value in found if value != ignored]
    if len(ids) < 2:
        raise ValueError(
            f"the labels hold {join_some(found, _NAMED)} alone, of which {ignored} is ignored: one "
            "class teaches nothing"
        )
    options: dict[str, Any] = {} if ignore_label is None else {"ignore_label": ignore_label}
    form = "class ids" + (f", {ignored} ignored" if ignored in values else "")
    if names and len(names) > ids[-1]:
        return Labels(form, names, options)
    if ids == list(range(len(ids))):
        default = (_BACKGROUND, "foreground") if len(ids) == 2 else [f"class {one}" for one in ids]
        names = names or tuple(default)
        _check_count(names, len(ids), form)
        return Labels(form, names, options)
    names = names or tuple(f"class {one}" for one in ids)
    _check_count(names, len(ids), f"ids {join_some(ids, _NAMED)}")
    table = dict(zip(ids, names, strict=True))
    # An id is no class' that is ignored, and its own number may be a class'.
    if ignore_label is not None and ignore_label < len(names):
        table, options = table | {ignore_label: None}, {}
    return Labels(form, names, options | {"label_values": table})


def _of_colors(
    values: Counter, roots: Sequence[str | os.PathLike[str]], class_names: Sequence[str]
) -> Labels:
    table = _color_names(roots)
    if table and not class_names:
        unknown = sorted(values.keys() - table.keys())
        if unknown:
            raise ValueError(
                f"the labels hold the colours {join_some(unknown, _NAMED)}, which the table of "
                "colours beside them lacks: add them there"
            )
        classes = tuple(dict.fromkeys(table.values()))
        return Labels("colours of a table", classes, {"label_values": table})
    colors = sorted(values)
    if len(colors) < 2:
        raise ValueError(f"the labels hold the colour {colors[0]} alone: one class teaches nothing")
    names = tuple(class_names) or tuple("color {} {} {}".format(*one) for one in colors)
    _check_count(names, len(colors), f"the colours {join_some(colors, _NAMED)}")
    return Labels("colours", names, {"label_values": dict(zip(colors, names, strict=True))})


def _of_names(layout: Layout, class_names: Sequence[str]) -> Labels:
    """Classes of LabelMe's shapes or of COCO's annotations, by their names; and the background."""
    used: set[str] = set()
    for path in sorted({one.label for one in layout.pairs}):
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if layout.form == "labelme":
            used.update(shape["label"] for shape in content["shapes"])
            continue
        if any("segments_info" in one for one in content["annotations"]):
            raise ValueError(
                f"{path} is panoptic: register it with register_coco_sem_seg(panoptic_root=...)"
            )
        names = {one["id"]: one["name"] for one in content["categories"]}
        used.update(names[one["category_id"]] for one in content["annotations"])
    found = sorted(used)
    if class_names and set(class_names) - {_BACKGROUND} != used - {_BACKGROUND}:
        raise ValueError(f"classes must be {', '.join(found)}, in any order, got {class_names}")
    if not found:
        raise ValueError("the labels have no annotation: draw some first")
    first = "_background_" if "_background_" in used else _BACKGROUND
    names = [one for one in class_names or found if one != first]
    form = "polygons of LabelMe" if layout.form == "labelme" else "COCO's annotations"
    options: dict[str, Any] = {"background": first}
    return Labels(f"{form}, in none of which is {first}", (first, *names), options)


def _check_count(names: Sequence[str], count: int, what: str) -> None:
    if len(names) != count:
        raise ValueError(
            f"classes must be {count} names, for {what}, got {len(names)}: {', '.join(names)}"
        )


def _listed_names(roots: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Names of ids, of a text with one a line; empty without."""
    path = _first_file(roots, _LIST_NAMES)
    if path is None:
        return ()
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return tuple(line for line in lines if line and line != "__ignore__")


def _color_names(roots: Sequence[str | os.PathLike[str]]) -> dict[Color, str]:
    """Names of colours, of CVAT's labelmap.txt or a class_dict.csv; empty without."""
    path = _first_file(roots, _COLOR_NAMES)
    if path is None:
        return {}
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    try:
        if path.suffix == ".txt":
            rows = [line.split(":") for line in lines if line.strip() and not line.startswith("#")]
            pairs = [(row[1].split(","), row[0]) for row in rows]
        else:
            lines[0] = lines[0].lower()
            table = csv.DictReader(lines, skipinitialspace=True)
            pairs = [([row[one] for one in "rgb"], row["name"]) for row in table]
        return {tuple(map(int, color)): name.strip() for color, name in pairs}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must have lines as name:r,g,b (labelmap.txt) or columns name, r, g, b "
            f"(class_dict.csv): {error!r}; correct it or take it away"
        ) from error


def _first_file(roots: Sequence[str | os.PathLike[str]], names: Sequence[str]) -> Path | None:
    paths = (Path(root).expanduser() / name for root in roots for name in names)
    return next(filter(Path.is_file, paths), None)
