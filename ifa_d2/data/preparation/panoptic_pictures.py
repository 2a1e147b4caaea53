"""Stuff labels of panoptic data sets, for Panoptic FPN's semantic branch.

Every thing, crowds too, is 0; stuff classes are 1, 2, ... in the order of their ids; pixels of no
segment are 255 (Kirillov et al. 2019, Panoptic FPN, Sec. 3.1). They go to a folder of their own
beside the published files.
"""

import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

from ..panoptic_mapper import segment_ids
from ..panoptic_sets import CITYSCAPES_STUFF
from .base import Job, Preparation, Source, check_files, error_text

_SPLITS = ("train", "val")
_IGNORE = 255
_CITYSCAPES_PAGE = "https://www.cityscapes-dataset.com/downloads/ (free account)"
_CITYSCAPES_COMMAND = (
    "`CITYSCAPES_DATASET=ROOT/cityscapes python -m "
    "cityscapesscripts.preparation.createPanopticImgs --set-names train val`"
)
_COCO = "http://images.cocodataset.org"
_COCO_STUFF: Mapping[int, int] = MappingProxyType(
    {
        category: stuff
        for category, stuff in MetadataCatalog.get(
            "coco_2017_train_panoptic_separated"
        ).stuff_dataset_id_to_contiguous_id.items()
        if stuff > 0
    }
)


@cache
def _annotations(path: Path) -> dict[str, dict]:
    """Read the annotations of a panoptic JSON file, by the name of their picture.

    Kept: it is read before the workers start, which on Linux then share it.
    """
    try:
        return {one["file_name"]: one for one in json.loads(path.read_text())["annotations"]}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a panoptic annotation file: {error_text(error)}"
        ) from error


def _read(stuff: Mapping[int, int], job: Job) -> dict[Path, np.ndarray | Path]:
    with Image.open(job.source) as image:
        ids = segment_ids(np.array(image.convert("RGB")))
    values, places = np.unique(ids, return_inverse=True)
    table = np.full(len(values), _IGNORE, np.uint8)
    for segment in _annotations(job.others[0])[job.source.name]["segments_info"]:
        table[values == segment["id"]] = stuff.get(segment["category_id"], 0)
    return {job.label: table[places].reshape(ids.shape)}


def _list_cityscapes(root: Path, label_root: Path) -> list[Job]:
    base, jobs = root / "cityscapes", []
    for split in _SPLITS:
        folder = base / "gtFine" / f"cityscapes_panoptic_{split}"
        json_file = folder.with_suffix(".json")
        for name in sorted(_annotations(json_file)):
            stem = name.removesuffix("_gtFine_panoptic.png")
            image = base / "leftImg8bit" / split / stem.split("_")[0] / f"{stem}_leftImg8bit.png"
            label = base / "gtFine" / f"cityscapes_panoptic_stuff_{split}" / name
            jobs.append(Job(split, image, folder / name, label, others=(json_file,)))
    check_files("cityscapes_panoptic", [f for job in jobs for f in (job.image, job.source)])
    return jobs


def _list_coco(root: Path, label_root: Path) -> list[Job]:
    base, jobs = root / "coco", []
    for split in _SPLITS:
        json_file = base / "annotations" / f"panoptic_{split}2017.json"
        for name in sorted(_annotations(json_file)):
            image = base / f"{split}2017" / Path(name).with_suffix(".jpg")
            source = base / f"panoptic_{split}2017" / name
            label = base / f"panoptic_stuff_{split}2017" / name
            jobs.append(Job(split, image, source, label, others=(json_file,)))
    check_files("coco_panoptic", [f for job in jobs for f in (job.image, job.source)])
    return jobs


CITYSCAPES_PANOPTIC = Preparation(
    name="cityscapes_panoptic",
    counts={"train": 2975, "val": 500},
    num_classes=1 + len(CITYSCAPES_STUFF),
    ignore_label=_IGNORE,
    sources=tuple(
        source
        for split in _SPLITS
        for source in (
            Source(
                f"cityscapes/leftImg8bit/{split}",
                f"leftImg8bit_trainvaltest.zip, {_CITYSCAPES_PAGE}",
            ),
            Source(f"cityscapes/gtFine/cityscapes_panoptic_{split}", _CITYSCAPES_COMMAND),
            Source(f"cityscapes/gtFine/cityscapes_panoptic_{split}.json", _CITYSCAPES_COMMAND),
        )
    ),
    label_root=None,
    list_jobs=_list_cityscapes,
    read=partial(_read, dict(CITYSCAPES_STUFF)),  # what processes are sent must pickle
)

COCO_PANOPTIC = Preparation(
    name="coco_panoptic",
    counts={"train": 118_287, "val": 5000},
    num_classes=54,
    ignore_label=_IGNORE,
    sources=tuple(
        source
        for split in _SPLITS
        for source in (
            Source(f"coco/{split}2017", f"{_COCO}/zips/{split}2017.zip"),
            Source(
                f"coco/annotations/instances_{split}2017.json",
                f"{_COCO}/annotations/annotations_trainval2017.zip",
            ),
            Source(
                f"coco/annotations/panoptic_{split}2017.json",
                f"{_COCO}/annotations/panoptic_annotations_trainval2017.zip",
            ),
            Source(
                f"coco/panoptic_{split}2017",
                f"panoptic_{split}2017.zip, inside panoptic_annotations_trainval2017.zip",
            ),
        )
    ),
    label_root=None,
    list_jobs=_list_coco,
    read=partial(_read, dict(_COCO_STUFF)),
)
