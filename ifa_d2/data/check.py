"""Check of every file of a registered data set."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from ..listing import join_some
from .bands import read_record_bands
from .catalog import check_name, list_records
from .content import LabelContent
from .label_table import LabelTable
from .labels import read_record_label
from .parallel import check_workers, run_parallel
from .pictures import plain_reason, read_picture

_NAMED = 8  # how many ids a fault lists


@dataclass(frozen=True)
class Fault:
    """Fault of a file."""

    file: str
    problem: str


@dataclass(frozen=True)
class ClassCount:
    """How often a class occurs.

    Fields:
        id: as the model has it
        name: as the metadata has it
        pixels: of the class
        share: of all pixels that have a class, 0 to 1
        images: that show the class
    """

    id: int
    name: str
    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class DatasetReport:
    """Counts and faults of a data set.

    Fields:
        name: as registered
        images: pictures, those with faults included
        faults: files that cannot be used
        only_ignored: label files without a pixel of a class; they teach nothing
        classes: in the order of their ids; of files without fault
        ignored_share: of all pixels, 0 to 1
        has_labels: False if no record has a label; then only images were opened
        content_fault: reason why the labels can teach nothing, "" if they can
        warnings: oddities of the labels that may be intended
    """

    name: str
    images: int
    faults: tuple[Fault, ...]
    only_ignored: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    ignored_share: float
    has_labels: bool = True
    content_fault: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every file can be used, and the labels can teach something."""
        return self.images > 0 and not self.faults and not self.content_fault

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain types for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """Format the report: classes, then every file with a fault."""
        bad = [f"bad: {fault.file}: {fault.problem}" for fault in self.faults]
        if not self.has_labels:
            line = f"{self.name}: {self.images} images without labels, {len(bad)} bad files"
            return "\n".join([*bad, line])
        rows = [[c.id, c.name, c.pixels, 100 * c.share, c.images] for c in self.classes]
        headers = ["id", "class", "pixels", "%", "images"]
        lines = [tabulate(rows, headers=headers, floatfmt=".3f"), ""]
        lines += [f"nothing but ignore: {path}" for path in self.only_ignored]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += bad
        if self.content_fault:
            lines.append(f"bad: {self.name}: {self.content_fault}")
        lines.append(
            f"{self.name}: {self.images} images, {100 * self.ignored_share:.2f} % of the pixels "
            f"ignored, {len(self.only_ignored)} images with nothing but ignore, "
            f"{len(self.faults)} bad files"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Item:
    """A picture to check."""

    record: dict[str, Any]
    num_classes: int
    ignore_label: int
    has_label: bool  # as all of its data set, or none
    table: LabelTable | None

    @property
    def image(self) -> str | None:
        """Its file, if it is there."""
        return self.record["file_name"]

    @property
    def label(self) -> str | None:
        """File with its label, if it is there; with the image's, where one file has them all."""
        label = self.record.get("sem_seg_file_name")
        return f"{label} of {self.image}" if "sem_seg_annotations" in self.record else label

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width), if the record says so."""
        return (self.record["height"], self.record["width"]) if "height" in self.record else None


@dataclass(frozen=True)
class _Result:
    faults: tuple[Fault, ...]
    pixels: np.ndarray  # (num_classes,)
    ignored: int


def check_dataset(name: str, *, workers: int = 1) -> DatasetReport:
    """Open every image and every label of a data set.

    Images and labels must open, agree with the checksums that they hold, and have one size, which
    is also the record's; ids must be classes or the label to ignore. Files without partner are
    faults too, and so are labels of one class alone where more are registered. Of a data set
    without any label, as a server's test set, the images alone are opened.

    Args:
        name: a registered data set for semantic segmentation
        workers: processes

    Raises:
        FileNotFoundError: the data set is not there at all.
        OSError: one of its folders cannot be listed.
        ValueError: no such name, no classes to check, labels of some records only, or ``workers``
            below 1.
    """
    check_workers(workers)
    check_name(name, "name")
    classes = MetadataCatalog.get(name).get("stuff_classes")
    if not classes:
        raise ValueError(f"name {name!r} has no stuff_classes: it is not for segmentation")
    items = list(_list_items(name, len(classes)))
    results = list(run_parallel(partial(_check, num_classes=len(classes)), items,
                                workers=workers, description=name))  # fmt: skip
    pixels = np.array([result.pixels for result in results], np.int64).reshape(-1, len(classes))
    ignored = sum(result.ignored for result in results)
    ignore_label = MetadataCatalog.get(name).get("ignore_label", 255)
    has_table = MetadataCatalog.get(name).get("label_table") is not None
    content = LabelContent(tuple(classes), pixels.sum(axis=0), ignored, ignore_label, has_table)
    total = int(pixels.sum())
    counts = zip(classes, pixels.sum(axis=0), (pixels > 0).sum(axis=0), strict=True)
    return DatasetReport(
        name=name,
        images=len(items),
        faults=tuple(fault for result in results for fault in result.faults),
        only_ignored=tuple(
            item.label
            for item, result in zip(items, results, strict=True)
            if item.has_label and not result.faults and not result.pixels.any()
        ),
        classes=tuple(
            ClassCount(index, label, int(area), float(area / max(total, 1)), int(images))
            for index, (label, area, images) in enumerate(counts)
        ),
        ignored_share=ignored / max(total + ignored, 1),
        has_labels=all(item.has_label for item in items),
        content_fault=content.fault(),
        warnings=tuple(content.warnings()),
    )


def _list_items(name: str, num_classes: int) -> Iterator[_Item]:
    metadata = MetadataCatalog.get(name)
    ignore_label, table = metadata.get("ignore_label", 255), metadata.get("label_table")
    records = list_records(name)
    has_labels = any("sem_seg_file_name" in record for record in records)
    for record in records:
        if has_labels and "sem_seg_file_name" not in record:
            raise ValueError(f"name {name!r} lists {record['file_name']!r} without a label")
        yield _Item(
            record,
            record.get("num_classes", num_classes),
            record.get("ignore_label", ignore_label),
            has_labels,
            record.get("label_table", table),
        )


def _check(item: _Item, num_classes: int) -> _Result:
    """Check one picture; count its pixels of each class if nothing is wrong."""
    nothing = np.zeros(num_classes, np.int64)
    if item.image is None or (item.label is None and item.has_label):
        kind, path = ("image", item.label) if item.image is None else ("label", item.image)
        return _Result((Fault(path, f"has no {kind}"),), nothing, 0)
    faults, bands = [], item.record.get("bands")
    try:
        if bands is None:
            image = read_picture(item.image, strict=True)
        else:
            image = read_record_bands(item.record)
        size = image.shape[:2]
        if item.size not in (None, size):
            faults.append(Fault(item.image, f"is {size}, but its record says {item.size}"))
    except (OSError, ValueError) as error:
        image = size = None
        faults.append(Fault(item.image, f"cannot be read: {plain_reason(error, item.image)}"))
    if not item.has_label:
        return _Result(tuple(faults), nothing, 0)
    try:
        if image is None and bands is not None:  # whose fault is known, and whose data is not
            return _Result(tuple(faults), nothing, 0)
        label = read_record_label(item.record, table=item.table, strict=True, image=image)
    except (OSError, ValueError) as error:
        return _Result((*faults, Fault(item.label, plain_reason(error, item.label))), nothing, 0)
    if size is not None and label.shape != size:
        problem = f"has (height, width) {label.shape}, but its image {item.image} has {size}"
        faults.append(Fault(item.label, problem))
    values, counts = np.unique(label, return_counts=True)
    is_ignored = values == item.ignore_label
    is_class = (values >= 0) & (values < min(item.num_classes, num_classes)) & ~is_ignored
    wrong = values[~is_class & ~is_ignored]
    if wrong.size:
        shown = join_some(wrong, _NAMED)
        problem = f"holds {shown}: neither one of {item.num_classes} classes nor ignore"
        faults.append(Fault(item.label, problem))
    if faults:
        return _Result(tuple(faults), nothing, 0)
    pixels = nothing.copy()
    pixels[values[is_class]] = counts[is_class]
    return _Result((), pixels, int(counts[is_ignored].sum()))
