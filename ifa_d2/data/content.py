"""Class counts of a data set's labels, and checks that they can teach something."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.data import MetadataCatalog

from ..listing import join_some, spread_indices
from .catalog import check_name, list_files
from .label_table import LabelTable
from .labels import read_label, translate_label

_MOSTLY = 0.5  # a share of ignored pixels above which it is said
_NAMED = 8  # how many classes a warning lists


@dataclass(frozen=True)
class LabelContent:
    """Pixel counts of a data set's labels.

    Fields:
        classes: names of the K registered classes
        pixels: (K,) of each class
        ignored: pixels that are ignored
        ignore_label: the value of these in the files
        has_table: a `LabelTable` says what the values in the files are
    """

    classes: tuple[str, ...]
    pixels: np.ndarray
    ignored: int
    ignore_label: int
    has_table: bool = False

    @property
    def ids(self) -> list[int]:
        """Ids that occur in the files, sorted."""
        ids = set(np.flatnonzero(self.pixels).tolist())
        return sorted(ids | ({self.ignore_label} if self.ignored else set()))

    def fault(self) -> str:
        """Explain why these labels can teach nothing, and the remedy; "" if they can."""
        count, present = len(self.classes), np.flatnonzero(self.pixels)
        if count < 2 or len(present) > 1 or not self.ids:
            return ""
        if self.ids == [0, 255] and self.ignore_label == 255 and not self.has_table:
            return (
                "its labels hold 0 and 255 alone, and 255 is ignored: they look like masks of 0 "
                f"and 255; register them with label_values={{0: {self.classes[0]!r}, 255: "
                f"{self.classes[1]!r}}}"
            )
        if self.has_table:
            shown = repr(self.classes[present[0]]) if len(present) else "ignored values"
            return (
                f"its labels hold {shown} alone, of the {count} classes registered: correct "
                "label_values or reduce_zero_label"
            )
        if not len(present):
            return (
                f"its labels hold {self.ignore_label} alone, which is ignored: write the ids of "
                f"the classes, 0..{count - 1}, into the files, or register another ignore_label"
            )
        return (
            f"its labels hold {', '.join(map(str, self.ids))}, and so one class alone, "
            f"{self.classes[present[0]]!r}, of the {count} registered: write the ids of the "
            f"others into the files, or register the classes that the files hold"
        )

    def warnings(self, *, whole: bool = True) -> list[str]:
        """List oddities that may be intended, a sentence each.

        Args:
            whole: all labels were counted, so that a class that was not found is in none.
        """
        found = []
        if len(self.classes) == 1:
            found.append(_one_class(self.classes[0]))
        absent = [name for name, area in zip(self.classes, self.pixels, strict=True) if not area]
        if whole and absent and self.ids:
            found.append(
                f"in no image: {join_some(absent, _NAMED)}: a model cannot learn them here"
            )
        share = self.ignored / max(self.ignored + int(self.pixels.sum()), 1)
        if share > _MOSTLY:
            found.append(
                f"{100 * share:.0f} % of the pixels are {self.ignore_label}, which is ignored: "
                f"if {self.ignore_label} is a class in the files, register another ignore_label"
            )
        return found


def class_weights(pixels: Sequence[int], balance: float = 1.0) -> list[float]:
    """Weights of classes in a loss, by how often they occur.

    A class has its share of the pixels to the power ``-balance``, times what makes the mean weight
    of a pixel 1.

    Args:
        pixels: of each class, such as :func:`ifa_d2.data.check.check_dataset` counts.
        balance: in [0, 1]. 1 gives every class the same part in a loss (scikit-learn's "balanced"),
            0.5 weighs by the square root, 0 not at all.

    Returns:
        One for each class; 0 for a class without pixels.

    Raises:
        ValueError: ``balance`` out of its range, a negative count, or no pixel at all.
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must be in [0, 1], got {balance}")
    counts = np.asarray(pixels, np.float64)
    if counts.ndim != 1 or not counts.sum() > 0 or counts.min() < 0:
        raise ValueError(f"pixels must be one count for each class, not all 0, got {pixels}")
    shares = counts / counts.sum()
    weights = np.where(shares > 0, np.where(shares > 0, shares, 1) ** -balance, 0)
    return (weights / (weights @ shares)).tolist()


def check_label_content(name: str, sample: int = 32) -> list[str]:
    """Check before a training that the labels of a data set can teach something.

    A sample of the labels is opened. If it holds one class alone, the others are opened too, up to
    the first with a second class: a class may be rare.

    Args:
        name: a registered data set; one without classes, without labels, or whose metadata does not
            say which ``ignore_label`` its files have, is passed over.
        sample: number of labels, evenly spread.

    Returns:
        Oddities that may be intended, a sentence each.

    Raises:
        FileNotFoundError: the data set, or one of the labels, is not there.
        ValueError: no such name; ``sample`` is below 1; one class is registered; a label is damaged
            or holds an id that is no class; or all labels hold the same class, or none.
    """
    check_name(name, "name")
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    metadata = MetadataCatalog.get(name)
    classes = tuple(metadata.get("stuff_classes") or ())
    known = classes and metadata.get("ignore_label") is not None
    labels = [label for _, label in list_files(name) if label] if known else []
    if not labels:
        return []
    if len(classes) == 1:
        raise ValueError(f"data set {name!r}: {_one_class(classes[0])}")
    ignore_label = metadata.ignore_label
    counts = np.zeros(1 + len(classes), np.int64)  # ignored pixels, then those of each class
    opened = 0
    for path in _spread_first(labels, sample):
        if opened >= sample and np.count_nonzero(counts[1:]) > 1:
            break
        counts += _count(path, len(classes), ignore_label, metadata.get("label_table"))
        opened += 1
    has_table = metadata.get("label_table") is not None
    content = LabelContent(classes, counts[1:], int(counts[0]), ignore_label, has_table)
    if fault := content.fault():
        raise ValueError(f"data set {name!r}: {fault} ({opened} labels were opened)")
    whole = opened == len(labels)
    return [f"data set {name!r}: {warning}" for warning in content.warnings(whole=whole)]


def _one_class(name: str) -> str:
    return (
        f"it has one class, {name!r}: one class teaches nothing, as every prediction is right; "
        "register what is not of it as a class too, such as ['background', ...]"
    )


def _spread_first(labels: list[str], sample: int) -> list[str]:
    """All labels, but evenly spread ones before the rest."""
    spread = spread_indices(len(labels), sample)
    chosen = set(spread)
    rest = [index for index in range(len(labels)) if index not in chosen]
    return [labels[index] for index in (*spread, *rest)]


def _count(path: str, num_classes: int, ignore_label: int, table: LabelTable | None) -> np.ndarray:
    """Count the ignored pixels of a label and the pixels of each class, (1 + num_classes,)."""
    label = translate_label(
        read_label(path, table=table),
        path,
        num_classes=num_classes,
        ignore_label=ignore_label,
        ignore_value=-1,
    )
    return np.bincount(label.ravel() + 1, minlength=1 + num_classes)
