"""Names of semantic segmentation data sets, and suggestions for unknown ones."""

import inspect
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

_NEAREST = 5  # how many names an error lists
_PACKAGE = Path(__file__).resolve().parents[1]
# Files that register data sets, by names of data sets, as saved configs tell.
_registering_files: dict[str, str] = {}


def registering_file(name: str) -> str | None:
    """File that registers a data set; None for one that comes with a package."""
    function = dict(DatasetCatalog).get(name)
    file = getattr(function, "registered_in", None)
    if file is None and inspect.isfunction(function):
        file = function.__code__.co_filename
    if not file or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    return None if _PACKAGE in path.parents or "site-packages" in path.parts else str(path)


def remember_registering_file(name: str, file: str) -> None:
    """Record the file that registers a data set, for :func:`check_name`."""
    _registering_files[name] = file


def sem_seg_names() -> list[str]:
    """Names of the registered data sets with ``stuff_classes``, sorted.

    Data sets whose evaluator is for instances alone are left out: Detectron2 gives them the classes
    of the semantic sets of the same pictures.
    """
    names = []
    for name in sorted(set(DatasetCatalog) & set(MetadataCatalog)):
        metadata = MetadataCatalog.get(name)
        evaluator = metadata.get("evaluator_type") or "sem_seg"
        if metadata.get("stuff_classes") and evaluator.endswith(("sem_seg", "panoptic_seg")):
            names.append(name)
    return names


def list_records(name: str) -> list[dict[str, Any]]:
    """List the records of a data set; those of folders without sizes, as no image is opened.

    A folder's file without partner is listed too, with None for the partner.
    """
    dataset = dict(DatasetCatalog)[name]
    if not hasattr(dataset, "pairs"):
        return DatasetCatalog.get(name)
    keys = ("file_name", "sem_seg_file_name") if dataset.has_labels else ("file_name",)
    metadata = vars(MetadataCatalog.get(name))
    given = {key: metadata[key] for key in ("ignore_label", "bands", "nodata") if key in metadata}
    return [dict(zip(keys, pair, strict=False)) | given for pair in dataset.pairs().values()]


def check_name(name: str, parameter: str) -> None:
    """Raise unless a registered data set has this name.

    Args:
        name: as a user wrote it
        parameter: name of the argument, for the error

    Raises:
        ValueError: an unknown name; the message has the nearest names of `sem_seg_names`.
    """
    if name in DatasetCatalog:
        return
    if name in _registering_files:
        raise ValueError(
            f"{parameter} {name!r} is registered by {_registering_files[name]}, which was not "
            "read: name that file, or one that imports it, as the config file"
        )
    nearest = sorted(sem_seg_names(), key=lambda known: _likeness(name, known), reverse=True)
    raise ValueError(
        f"{parameter} must be a registered data set with semantic labels, got {name!r}; "
        f"the nearest are {', '.join(nearest[:_NEAREST])}"
    )


def check_same_classes(names: Sequence[str]) -> None:
    """Raise unless data sets that are used together give each class the same id.

    Their ignored labels may differ. Data sets without ``stuff_classes`` are passed over.

    Args:
        names: registered data sets; the others are compared with the first

    Raises:
        ValueError: no such name; or other classes, or another order of them. The message has both
            data sets and the first id at which they differ.
    """
    known = []
    for name in names:
        check_name(name, "names")
        if classes := MetadataCatalog.get(name).get("stuff_classes"):
            known.append((name, list(classes)))
    for name, classes in known[1:]:
        first, expected = known[0]
        for index, (one, other) in enumerate(zip_longest(expected, classes)):
            if one != other:
                raise ValueError(
                    f"data sets {first!r} and {name!r} must have the same classes in the same "
                    f"order, but class {index} is {_quoted(one)} in {first!r} and {_quoted(other)} "
                    f"in {name!r}: register both with one list of classes, to which the ids in "
                    "the label files of both keep"
                )


def _quoted(name: str | None) -> str:
    return "absent" if name is None else repr(name)


def _likeness(name: str, known: str) -> tuple[int, float]:
    """Score how much of a name is in a known one: users leave out parts of long names."""
    matcher = SequenceMatcher(None, name.lower(), known)
    return sum(block.size for block in matcher.get_matching_blocks()), matcher.ratio()
