"""COCO's files of instances, of stuff and of panoptic segments as semantic labels."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..listing import join_some
from .annotations import OVERLAPS, check_segmentation
from .label_table import LabelTable, Value, name_table
from .registration import add_to_catalog, check_classes, check_colors
from .sem_seg_folder import expand_path

_NAMED = 5  # how many files an error lists
Json = Mapping[str, Any]


@dataclass(frozen=True)
class CocoSemSeg:
    """Catalog entry of a COCO file as semantic labels; lists its pictures when called.

    Two equal ones are the same data set. See `register_coco_sem_seg` for the fields.
    """

    name: str
    json_file: str
    image_root: str
    panoptic_root: str | None
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    label_table: LabelTable
    overlap: str
    evaluator_type: str
    registered_in: str = field(default="", compare=False)

    @property
    def ignore_label(self) -> int:
        """The label of pixels without a class."""
        return self.label_table.ignored

    def __call__(self) -> list[dict]:
        """List the pictures: one dict each, in the order of their ids.

        Returns:
            dicts of `file_name`, `height`, `width`, `image_id`, `ignore_label`, `num_classes` and
            `sem_seg_file_name`: the JSON file, with what
            :func:`ifa_d2.data.labels.read_record_label` fills; or a panoptic picture, with its
            colours' `label_table`.

        Raises:
            FileNotFoundError: there is no JSON file.
            ValueError: it is not of COCO's format, has a category that is no class, or names
                pictures that are not there; the message has the file and the place.
        """
        path = expand_path(self.json_file)
        vars(MetadataCatalog.get(self.name))["image_root"] = expand_path(self.image_root)
        try:
            content = _read_json(path)
            classes = self._classes_of_categories(content, path)
            if self.panoptic_root is None:
                records = list(self._instances(content, classes, path))
            else:
                records = list(self._panoptic(content, classes, path))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path!r} is not of COCO's format: {error!r}") from error
        if not records:
            raise ValueError(f"{path!r} has no images")
        for key in ("file_name", "sem_seg_file_name"):
            missing = sorted({one[key] for one in records if not os.path.isfile(one[key])})
            if missing:
                raise ValueError(
                    f"data set {self.name!r}: {len(missing)} files that {path!r} names are not "
                    f"there: {join_some(missing, _NAMED)}"
                )
        return records

    def _classes_of_categories(self, content: Json, path: str) -> dict[int, int]:
        """Classes by the ids of categories, of those that annotations have."""
        names = {one["id"]: one["name"] for one in content["categories"]}
        used = set()
        for annotation in content["annotations"]:
            segments = [annotation] if self.panoptic_root is None else annotation["segments_info"]
            used.update(one["category_id"] for one in segments)
        if unknown := sorted(used - names.keys()):
            raise ValueError(
                f"{path!r} has annotations of the category {unknown[0]}, which its list of "
                "categories lacks"
            )
        return {
            one: self.label_table.class_of(names[one], path, f"category {one}")
            for one in sorted(used)
        }

    def _images(self, content: Json, path: str) -> dict[Any, dict]:
        """Records by the ids of images, sorted, without labels."""
        records = {}
        for image in sorted(content["images"], key=lambda one: one["id"]):
            if image["id"] in records:
                raise ValueError(f"{path!r} has two images of the id {image['id']!r}")
            records[image["id"]] = {
                "file_name": os.path.join(expand_path(self.image_root), image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image["id"],
                "ignore_label": self.ignore_label,
                "num_classes": len(self.classes),
            }
        return records

    def _instances(self, content: Json, classes: Mapping[int, int], path: str) -> Iterator[dict]:
        records = self._images(content, path)
        drawn: dict[Any, list[dict]] = {one: [] for one in records}
        for annotation in content["annotations"]:
            place = f"{path!r}: annotation {annotation.get('id')!r}"
            image_id, segmentation = annotation["image_id"], annotation.get("segmentation")
            if image_id not in records:
                raise ValueError(f"{place} is of the image {image_id!r}, which is not in its list")
            record = records[image_id]
            try:
                check_segmentation(segmentation, (record["height"], record["width"]))
            except ValueError as error:
                raise ValueError(f"{place} of {record['file_name']!r} {error}") from error
            class_id = classes[annotation["category_id"]]
            drawn[image_id].append({"category_id": class_id, "segmentation": segmentation})
        for image_id, record in records.items():
            yield record | {
                "sem_seg_file_name": path,
                "sem_seg_annotations": drawn[image_id],
                "background": self.label_table.background,
                "overlap": self.overlap,
            }

    def _panoptic(self, content: Json, classes: Mapping[int, int], path: str) -> Iterator[dict]:
        records, seen = self._images(content, path), set()
        for annotation in content["annotations"]:
            image_id = annotation["image_id"]
            if image_id not in records or image_id in seen:
                times = "twice, or not at all," if image_id in seen else "not"
                raise ValueError(f"{path!r}: the image {image_id!r} is {times} in its list")
            seen.add(image_id)
            entries = {(0, 0, 0): self.label_table.background}
            for segment in annotation["segments_info"]:
                entries[_color(segment["id"])] = classes[segment["category_id"]]
            source = f"the segments of image {image_id!r} in {path!r}"
            yield records[image_id] | {
                "sem_seg_file_name": os.path.join(
                    expand_path(self.panoptic_root), annotation["file_name"]
                ),
                "label_table": LabelTable(tuple(entries.items()), self.ignore_label, source),
            }
        if alone := sorted(map(str, records.keys() - seen)):
            raise ValueError(
                f"{path!r} has {len(alone)} images without annotation: {join_some(alone, _NAMED)}"
            )


def register_coco_sem_seg(
    name: str,
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    classes: Sequence[str],
    colors: Sequence[Sequence[int]] | None = None,
    *,
    panoptic_root: str | os.PathLike[str] | None = None,
    label_values: Mapping[Value, int | str | None] | None = None,
    background: int | str | None = None,
    overlap: str = "area",
    ignore_label: int | None = None,
    evaluator_type: str = "sem_seg",
) -> None:
    """Register COCO's file of instances or stuff, or of panoptic segments, as semantic labels.

    Polygons and masks are filled when a picture is read; no file is written. Nothing is read before
    the data set is asked for, and the same call again changes nothing.

    Args:
        name: name of the data set in DATASETS.TRAIN or a recipe
        json_file: COCO's file; `~` and environment variables are filled in when listing
        image_root: folder that the names of its images are relative to
        classes: class names; class id = place in this list
        colors: an (R, G, B) of 0..255 for each class, to draw with; made up if None
        panoptic_root: folder of the panoptic pictures that `json_file` names; None if it is of
            instances or stuff
        label_values: class (its name or id) of each category's name; None ignores its pixels. A
            category that has annotations and no class is an error. Without it, categories are
            classes by their names
        background: class (its name or id) of the pixels in no annotation; None ignores them
        overlap: which of two annotations lies above: "area", the smaller one (in pixels, in its
            picture); or "order", the later one in the file. Panoptic segments do not overlap
        ignore_label: the label of ignored pixels, no class; None is 255, or 65535 where there are
            more classes
        evaluator_type: metadata by which the evaluator is chosen

    Raises:
        ValueError: bad classes, colours, table, background or overlap; or the name is taken by
            something else.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap must be one of {OVERLAPS}, got {overlap!r}")
    ignore_label = check_classes(classes, ignore_label)
    entry = CocoSemSeg(
        name=name,
        json_file=os.fspath(json_file),
        image_root=os.fspath(image_root),
        panoptic_root=None if panoptic_root is None else os.fspath(panoptic_root),
        classes=tuple(classes),
        colors=check_colors(colors, len(classes)),
        label_table=name_table(label_values, classes, ignore_label, background),
        overlap=overlap,
        evaluator_type=evaluator_type,
        registered_in=sys._getframe(1).f_code.co_filename,
    )
    add_to_catalog(entry, label_table=entry.label_table, json_file=entry.json_file)


def _read_json(path: str) -> Json:
    with PathManager.open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"cannot read {path!r}: it is no JSON: {error}") from error


def _color(segment_id: int) -> tuple[int, int, int]:
    """Colour of a segment in a panoptic picture: its id is R + 256 G + 65536 B."""
    return segment_id & 255, segment_id >> 8 & 255, segment_id >> 16
