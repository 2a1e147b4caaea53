"""Tables from the values or colours in label files to classes."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = int | tuple[int, int, int] | str  # an id, an (R, G, B), or the name of a polygon
_MOST = 2**16 - 1  # a value may be


@dataclass(frozen=True)
class LabelTable:
    """Classes of the values, colours or names that label files hold.

    Fields:
        entries: (value, class) pairs; a value is an id, or in every pair an (R, G, B) or a name
        ignored: the class of values that mean "no class here"; it is no class id
        source: what gave the table, for errors
        background: class of the pixels in no polygon, where values are names
    """

    entries: tuple[tuple[Value, int], ...]
    ignored: int
    source: str = "label_values"
    background: int | None = None

    @property
    def of_colors(self) -> bool:
        """Whether label files hold colours."""
        return isinstance(self.entries[0][0], tuple)

    def class_of(self, name: str, path: str, place: str) -> int:
        """Class of a polygon's name.

        Raises:
            ValueError: the table lacks it; the message has the file and the place.
        """
        for known, one in self.entries:
            if known == name:
                return one
        known = ", ".join(repr(one) for one, _ in self.entries)
        raise ValueError(
            f"label {path!r} holds the name {name!r} in {place}, which is none of {known}: give it "
            "a class in label_values, or None to ignore it"
        )

    def color(self, class_id: int) -> tuple[int, int, int] | None:
        """First colour of a class; None where it has none."""
        if not self.of_colors:
            return None
        return next((value for value, one in self.entries if one == class_id), None)

    def translate(self, pixels: np.ndarray, path: str) -> np.ndarray:
        """Replace values by classes.

        Args:
            pixels: ids (H, W), or colours (H, W, 3) uint8
            path: the file, for the error

        Returns:
            (H, W) class ids and `ignored`, uint8 where they fit and int32 otherwise.

        Raises:
            ValueError: a value that the table lacks; the message has its place.
        """
        values = np.array([_code(value) for value, _ in self.entries], np.int64)
        order = values.argsort()
        values = values[order]
        classes = np.array([one for _, one in self.entries])[order]
        codes = pixels.astype(np.int64)
        if self.of_colors:
            codes = codes @ np.array([1 << 16, 1 << 8, 1])
        places = np.searchsorted(values, codes).clip(max=len(values) - 1)
        unknown = values[places] != codes
        if unknown.any():
            raise ValueError(self._unknown(codes, unknown, path))
        return classes.astype(np.uint8 if classes.max() <= 255 else np.int32)[places]

    def _unknown(self, codes: np.ndarray, unknown: np.ndarray, path: str) -> str:
        row, column = np.argwhere(unknown)[0].tolist()
        code = int(codes[row, column])
        kind, value = "value", str(code)
        if self.of_colors:
            kind, value = "colour", str((code >> 16, code >> 8 & 255, code & 255))
        count = len(np.unique(codes[unknown]))
        more = f", and {count - 1} more {kind}s that are not in it" if count > 1 else ""
        return (
            f"label {path!r} holds the {kind} {value} at row {row}, column {column}, which "
            f"{self.source} lacks{more}: give it a class there, or None to ignore it"
        )


def _code(value: Value) -> int:
    """Number of a value; of a colour, its bytes in a row."""
    if isinstance(value, tuple):
        red, green, blue = value
        return red << 16 | green << 8 | blue
    return value


def make_label_table(
    label_values: Mapping[Any, int | str | None], classes: Sequence[str], ignored: int
) -> LabelTable:
    """Make the table of `register_sem_seg_folder`'s argument `label_values`.

    Args:
        label_values: class name, class id or None (ignored) of each id or (R, G, B)
        classes: class names
        ignored: the label that is ignored; as a value of a file, too, unless it is in the table

    Raises:
        ValueError: an empty table, one of ids and colours, a value that no file can hold, or what
            is no class.
    """
    if not isinstance(label_values, Mapping) or not label_values:
        raise ValueError(
            "label_values must be a dict from values or colours in the label files to classes, "
            f"got {label_values!r}"
        )
    entries = {}
    for key, name in label_values.items():
        entries[_value(key)] = (
            ignored if name is None else _class_id(name, f"label_values[{key!r}]", classes)
        )
    if len({isinstance(value, tuple) for value in entries}) > 1:
        raise ValueError(
            f"label_values must have ids alone or colours alone, got {list(label_values)}"
        )
    if not isinstance(next(iter(entries)), tuple):
        entries.setdefault(ignored, ignored)
    return LabelTable(tuple(entries.items()), ignored)


def name_table(
    label_values: Mapping[str, int | str | None] | None,
    classes: Sequence[str],
    ignored: int,
    background: int | str | None,
) -> LabelTable:
    """Make the table of polygons' names.

    Args:
        label_values: class name, class id or None (ignored) of each name; None is those of the
            classes
        classes: class names
        ignored: the label that is ignored
        background: class name or id of the pixels in no polygon; None ignores them

    Raises:
        ValueError: an empty table, another key than a name, or what is no class.
    """
    if label_values is None:
        label_values = {name: name for name in classes}
    if not isinstance(label_values, Mapping) or not label_values:
        raise ValueError(f"label_values must be a dict from names to classes, got {label_values!r}")
    if ignored < len(classes):
        raise ValueError(
            f"ignore_label {ignored} is one of the {len(classes)} classes 0..{len(classes) - 1}: "
            "of polygons it must not be"
        )
    if wrong := [key for key in label_values if not isinstance(key, str)]:
        raise ValueError(f"label_values must be of the names of polygons, got {wrong[0]!r}")
    entries = tuple(
        (key, ignored if name is None else _class_id(name, f"label_values[{key!r}]", classes))
        for key, name in label_values.items()
    )
    outside = ignored if background is None else _class_id(background, "background", classes)
    return LabelTable(entries, ignored, background=outside)


def reduced_zero_table(num_classes: int, ignored: int) -> LabelTable:
    """Make the table of label files whose 0 is ignored and whose classes begin at 1."""
    entries = {0: ignored, ignored: ignored} | {one + 1: one for one in range(num_classes)}
    return LabelTable(tuple(entries.items()), ignored, "reduce_zero_label")


def _value(key: object) -> Value:
    """Check an id or a colour."""
    whole = (int, np.integer)
    if isinstance(key, tuple) and len(key) == 3:
        if all(isinstance(one, whole) and 0 <= one <= 255 for one in key):
            return tuple(int(one) for one in key)
    elif isinstance(key, whole) and not isinstance(key, bool) and 0 <= key <= _MOST:
        return int(key)
    raise ValueError(
        f"label_values must be of ids 0..{_MOST} or colours (R, G, B) of 0..255, got {key!r}"
    )


def _class_id(name: object, argument: str, classes: Sequence[str]) -> int:
    if isinstance(name, str) and name in classes:
        return list(classes).index(name)
    if isinstance(name, int | np.integer) and not isinstance(name, bool):
        if 0 <= name < len(classes):
            return int(name)
    near = difflib.get_close_matches(str(name), classes, 1, 0)
    raise ValueError(
        f"{argument} must be a class name (the nearest is {near[0]!r}), a class id "
        f"0..{len(classes) - 1} or None to ignore it, got {name!r}"
    )
