"""Cityscapes: training ids of 19 classes, next to the label pictures of gtFine.

Training ids are looked up in labelIds, which the benchmark's own evaluation reads; where those or
instanceIds are not there, cityscapesscripts draws them from the polygons. It is imported where it
is used: other data sets do without.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ...extras import check_extra
from ..labels import read_label
from .base import Job, Preparation, Source, check_partners, name_some

_SPLITS = ("train", "val")
_IMAGE = "_leftImg8bit.png"
_POLYGONS, _LABEL_IDS = "_gtFine_polygons.json", "_gtFine_labelIds.png"
_PAGE = "https://www.cityscapes-dataset.com/downloads/ (free account)"


def _list_jobs(root: Path, label_root: Path) -> list[Job]:
    check_extra("cityscapes", "preparing cityscapes")
    base, jobs = root / "cityscapes", []
    for split in _SPLITS:
        images = _by_name(base / "leftImg8bit" / split, _IMAGE)
        for stem, image in sorted(images.items()):
            start = base / "gtFine" / split / image.parent.name / stem
            label, *others = (
                start.with_name(f"{stem}_gtFine_{kind}.png")
                for kind in ("labelTrainIds", "labelIds", "instanceIds")
            )
            polygons = start.with_name(stem + _POLYGONS)
            source = polygons if polygons.is_file() else others[0]
            jobs.append(Job(split, image, source, label, others=tuple(others)))
        for kind in (_POLYGONS, _LABEL_IDS):
            annotated = _by_name(base / "gtFine" / split, kind)
            check_partners("cityscapes", images, {**images, **annotated})
    _check_annotations(jobs)
    return jobs


def _check_annotations(jobs: list[Job]) -> None:
    """Raise a ValueError, with their names, for files that are missing and cannot be made."""
    missing = []
    for job in jobs:
        if job.source in job.others:  # there are no polygons to draw from
            absent = [path for path in job.others if not path.is_file()]
            polygons = job.source.with_name(job.source.name.replace(_LABEL_IDS, _POLYGONS))
            missing += [f"{path} (or {polygons.name}, to draw it from)" for path in absent]
    if missing:
        header = f"cityscapes is not complete; {len(missing)} file(s) of gtFine are missing:"
        raise ValueError("\n".join([header, *name_some(missing)]))


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.name.removesuffix(suffix): path for path in folder.glob(f"*/*{suffix}")}


def _read(job: Job) -> dict[Path, np.ndarray | Path]:
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    ids_file, instances_file = job.others
    if job.source == ids_file:
        return {job.label: _train_ids()[read_label(str(ids_file))]}
    annotation = Annotation()
    annotation.fromJsonFile(str(job.source))
    if not (ids_file.is_file() and instances_file.is_file()):
        _check_labels(annotation)
    files: dict[Path, np.ndarray | Path] = {}
    if ids_file.is_file():
        ids = read_label(str(ids_file))
    else:
        ids = files[ids_file] = np.array(createLabelImage(annotation, "ids"))
    if ids.shape != (annotation.imgHeight, annotation.imgWidth):
        raise ValueError(f"its size is not that of {ids_file}")
    if not instances_file.is_file():
        files[instances_file] = np.array(createInstanceImage(annotation, "ids"))
    files[job.label] = _train_ids()[ids]
    return files


def _check_labels(annotation: Any) -> None:
    """Raise a ValueError for polygons that would make cityscapesscripts exit."""
    from cityscapesscripts.helpers.labels import name2label

    drawn = {polygon.label for polygon in annotation.objects if not polygon.deleted}
    unknown = sorted(name for name in drawn if name.removesuffix("group") not in name2label)
    if unknown:
        raise ValueError(f"its polygons have labels that Cityscapes has not: {', '.join(unknown)}")


def _train_ids() -> np.ndarray:
    """Training ids by label ids, (256,) uint8; the licence plate (id -1) has none."""
    from cityscapesscripts.helpers.labels import id2label

    table = np.full(256, 255, np.uint8)
    for label in id2label.values():
        if label.id >= 0:
            table[label.id] = label.trainId
    return table


CITYSCAPES = Preparation(
    name="cityscapes",
    counts={"train": 2975, "val": 500},
    num_classes=19,
    ignore_label=255,
    sources=tuple(
        Source(f"cityscapes/{folder}/{split}", f"{folder}_trainvaltest.zip, {_PAGE}")
        for folder in ("leftImg8bit", "gtFine")
        for split in _SPLITS
    ),
    label_root=None,
    list_jobs=_list_jobs,
    read=_read,
)
