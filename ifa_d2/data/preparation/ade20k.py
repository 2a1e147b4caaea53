"""ADE20K's 150 classes as Detectron2 reads them: ids one less, and 255 for no class."""

from pathlib import Path

import numpy as np

from ..labels import read_label
from .base import Job, Preparation, Source, check_partners

_FOLDERS = {"train": "training", "val": "validation"}
_CLASSES = 150
_ARCHIVE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"


def _list_jobs(root: Path, label_root: Path) -> list[Job]:
    base, jobs = root / "ADEChallengeData2016", []
    for split, folder in _FOLDERS.items():
        images = {path.stem: path for path in (base / "images" / folder).glob("*.jpg")}
        annotations = {path.stem: path for path in (base / "annotations" / folder).glob("*.png")}
        check_partners("ade20k", images, annotations)
        jobs += [
            Job(split, images[stem], annotations[stem], label_root / folder / f"{stem}.png")
            for stem in sorted(images)
        ]
    return jobs


def _read(job: Job) -> dict[Path, np.ndarray | Path]:
    ids = read_label(str(job.source))
    if ids.max(initial=0) > _CLASSES:
        raise ValueError(f"it holds {ids.max()}: ids must be 0..{_CLASSES}")
    return {job.label: ids.astype(np.uint8) - np.uint8(1)}  # 0, "other", becomes 255


ADE20K = Preparation(
    name="ade20k",
    counts={"train": 20210, "val": 2000},
    num_classes=_CLASSES,
    ignore_label=255,
    sources=tuple(
        Source(f"ADEChallengeData2016/{kind}/{folder}", _ARCHIVE)
        for kind in ("images", "annotations")
        for folder in _FOLDERS.values()
    ),
    label_root="ADEChallengeData2016/annotations_detectron2",
    list_jobs=_list_jobs,
    read=_read,
)
