"""Registration of a folder of images and a folder of labels as a data set."""

import colorsys
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..choices import IMAGE_SUFFIXES
from .label_table import LabelTable, Value, make_label_table, name_table, reduced_zero_table
from .labelme import SUFFIX as LABELME_SUFFIX
from .pair_lists import LIST_SUFFIXES
from .sem_seg_folder import SemSegFolder


def default_colors(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Make distinct RGB colours: hues at golden-ratio steps, three brightnesses."""
    hsv = [
        ((0.6 + 0.6180339887 * i) % 1, (0.75, 0.55, 0.9)[i % 3], (0.9, 0.7, 0.5)[i // 3 % 3])
        for i in range(num_classes)
    ]
    return tuple(tuple(round(255 * c) for c in colorsys.hsv_to_rgb(*color)) for color in hsv)


def register_sem_seg_folder(
    name: str,
    image_root: str | os.PathLike[str],
    label_root: str | os.PathLike[str] | None,
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] | None = None,
    *,
    ignore_label: int | None = None,
    label_values: Mapping[Value, int | str | None] | None = None,
    reduce_zero_label: bool = False,
    background: int | str | None = None,
    image_suffixes: str | Sequence[str] = IMAGE_SUFFIXES,
    label_suffix: str | Sequence[str] = ".png",
    list_file: str | os.PathLike[str] | None = None,
    bands: int | None = None,
    nodata: float | None = None,
    evaluator_type: str = "sem_seg",
    extra_images: bool = False,
    prepare: Callable[[], object] | None = None,
    how_to_get: str = "",
) -> None:
    """Register a folder of images and a folder of labels under a name.

    An image and its label have the same path below their roots but for the suffix, in whichever of
    Unicode's forms; sub-folders are allowed, and hidden files and folders do not count. A label
    holds a class id a pixel, as grey values (8 or 16 bits) or palette indices, or with
    `label_values` other ids or colours; with `label_suffix` ".json" it is LabelMe's file of
    polygons, of which a later one lies over those before it. Nothing is read before the data set is
    asked for. It may be called at the top of a config file: the same call again, on another load or
    in another process, changes nothing.

    Args:
        name: name of the data set in DATASETS.TRAIN or a recipe
        image_root: folder of the images; `~` and environment variables are filled in when listing.
            With `*` in it ("scenes/*/rgb") it stands for all folders that fit; what the stars stand
            for is then the first part of a name
        label_root: folder of the labels, likewise; None for images without, as in a test set
        classes: class names; class id = place in this list
        colors: an (R, G, B) of 0..255 for each class, to draw with; made up if None
        ignore_label: the value in the label files that means "no class here"; None is 255, or 65535
            where there are more classes
        label_values: class (its name or id) of each value in the label files, an id, an (R, G, B)
            tuple, or LabelMe's name; None ignores it. Another value is an error, `ignore_label`
            excepted. LabelMe's names are those of `classes` if None
        reduce_zero_label: 0 in the label files is ignored, and k is class k - 1
        background: class (its name or id) of the pixels in none of LabelMe's polygons; None ignores
            them
        image_suffixes: ending of an image's file name, e.g. ".jpg" or "_leftImg8bit.png"
        label_suffix: ending of a label's file name, e.g. "_gtFine_labelTrainIds.png", or several
        list_file: the images that count: a .txt with the path of one a line, below `image_root`,
            with or without suffix (PASCAL VOC's ImageSets); or a .csv with the columns `image` and
            `label`, paths below the roots, which pairs them. None takes all
        bands: number of bands of the images, where they are not to be read as RGB, see
            :func:`ifa_d2.data.read_bands`; pixels without data are ignored
        nodata: value of these bands that means no data, besides the one that a file names itself
        evaluator_type: metadata by which the evaluator is chosen
        extra_images: images without a label are left out; otherwise they are an error
        prepare: called before listing, for data that can make itself
        how_to_get: a sentence for the error when a folder, or some files, are missing

    Raises:
        ValueError: bad classes, colours, label, table, suffix, list, number of bands or value of no
            data; or the name is taken by something else.
    """
    if bands is not None and (not isinstance(bands, int) or bands < 1):
        raise ValueError(f"bands must be None or a number of at least 1, got {bands!r}")
    if nodata is not None and (bands is None or not math.isfinite(nodata)):
        raise ValueError(
            f"nodata must be a finite number, of images of bands, got {nodata!r} with bands={bands}"
        )
    ignore_label = check_classes(classes, ignore_label)
    label_suffixes = _check_suffixes("label_suffix", label_suffix)
    if LABELME_SUFFIX in label_suffixes:
        if len(label_suffixes) > 1:
            raise ValueError(f"label_suffix {LABELME_SUFFIX!r} must be alone, got {label_suffixes}")
        if reduce_zero_label:
            raise ValueError("reduce_zero_label is of label pictures, but label_suffix is '.json'")
        table = name_table(label_values, classes, ignore_label, background)
    elif background is not None:
        raise ValueError(
            f"background {background!r} is of LabelMe's files, but label_suffix is {label_suffix!r}"
        )
    else:
        table = _label_table(label_values, reduce_zero_label, classes, ignore_label)
    if table is not None and label_root is None:
        raise ValueError(f"{table.source} is of label files, but label_root is None")
    folder = SemSegFolder(
        name=name,
        image_root=os.fspath(image_root),
        label_root=None if label_root is None else os.fspath(label_root),
        classes=tuple(classes),
        colors=check_colors(colors, len(classes), table),
        ignore_label=ignore_label,
        image_suffixes=_check_suffixes("image_suffixes", image_suffixes),
        label_suffixes=label_suffixes,
        evaluator_type=evaluator_type,
        extra_images=extra_images,
        prepare=prepare,
        how_to_get=how_to_get,
        registered_in=sys._getframe(1).f_code.co_filename,
        label_table=table,
        list_file=_check_list(list_file),
        bands=bands,
        nodata=None if nodata is None else float(nodata),
    )
    given = {"label_table": table, "bands": bands, "nodata": folder.nodata}
    if add_to_catalog(folder, **{key: value for key, value in given.items() if value is not None}):
        folder.write_roots()


def check_classes(classes: Sequence[str], ignore_label: int | None) -> int:
    """Check class names and the label to ignore; None becomes 255, or 65535 of more classes.

    Raises:
        ValueError: no class, a class twice, or what is no label.
    """
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes must be a list of different names, got {classes!r}")
    if ignore_label is None:
        return 255 if len(classes) <= 255 else 65535
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int) or ignore_label < 0:
        raise ValueError(f"ignore_label must be an integer of at least 0, got {ignore_label!r}")
    return ignore_label


def add_to_catalog(entry: Any, **metadata: object) -> bool:
    """Register a catalog entry and its metadata; an equal one that is there stays.

    Args:
        entry: with `name`, `classes`, `colors`, `ignore_label` and `evaluator_type`
        metadata: more of it

    Returns:
        Whether it is new.

    Raises:
        ValueError: the name is another data set's.
    """
    if entry.name in DatasetCatalog:
        if DatasetCatalog[entry.name] == entry:
            return False
        raise ValueError(f"name {entry.name!r} is registered already, as another data set")
    MetadataCatalog.get(entry.name).set(
        stuff_classes=list(entry.classes),
        stuff_colors=[list(color) for color in entry.colors],
        ignore_label=entry.ignore_label,
        evaluator_type=entry.evaluator_type,
        **metadata,
    )
    DatasetCatalog.register(entry.name, entry)
    return True


def _label_table(
    label_values: Mapping | None, reduce_zero_label: bool, classes: Sequence[str], ignore_label: int
) -> LabelTable | None:
    if label_values is None and not reduce_zero_label:
        return None
    if label_values is not None and reduce_zero_label:
        raise ValueError("label_values and reduce_zero_label exclude each other: give one of them")
    if ignore_label < len(classes):
        raise ValueError(
            f"ignore_label {ignore_label} is one of the {len(classes)} classes 0.."
            f"{len(classes) - 1}: with label_values or reduce_zero_label it must not be"
        )
    if reduce_zero_label:
        return reduced_zero_table(len(classes), ignore_label)
    return make_label_table(label_values, classes, ignore_label)


def _check_list(list_file: str | os.PathLike[str] | None) -> str | None:
    if list_file is None:
        return None
    if not os.fspath(list_file).lower().endswith(LIST_SUFFIXES):
        raise ValueError(
            f"list_file must end in {' or '.join(LIST_SUFFIXES)}, got {os.fspath(list_file)!r}"
        )
    return os.fspath(list_file)


def _check_suffixes(name: str, suffixes: str | Sequence[str]) -> tuple[str, ...]:
    several = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    if not several or not all(several):
        raise ValueError(f"{name} must be endings of file names, got {suffixes!r}")
    return several


def check_colors(
    colors: Sequence[Sequence[int]] | None, num_classes: int, table: LabelTable | None = None
) -> tuple[tuple[int, int, int], ...]:
    """Check the colours of classes; None makes some up, where a table of colours has none.

    Raises:
        ValueError: not one for each class, or what is no colour.
    """
    if colors is None:
        made = default_colors(num_classes)
        own = [table.color(index) if table else None for index in range(num_classes)]
        return tuple(color or other for color, other in zip(own, made, strict=True))
    checked = tuple(tuple(int(c) for c in color) for color in colors)
    if len(checked) != num_classes:
        raise ValueError(
            f"colors must be one for each of {num_classes} classes, got {len(checked)}"
        )
    for color in checked:
        if len(color) != 3 or not all(0 <= c <= 255 for c in color):
            raise ValueError(f"colors must be (R, G, B) of 0..255, got {color}")
    return checked
