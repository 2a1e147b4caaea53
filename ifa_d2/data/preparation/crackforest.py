"""CrackForest's two classes at 480x320, from the published folder.

A published ``Segmentation`` holds 1 for road and 2 for crack; a few pictures hold 3 and 4 too,
which are parts of cracks as well. Pictures without annotation, of which the folder has some, are
left out. There is no published split: here every fourth picture validates.
"""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from ..builtin import CRACKFOREST_CLASSES
from .base import Job, Preparation, Source, check_partners

_ORIGIN = "https://github.com/cuilimeng/CrackForest-dataset, renamed to crackforest"
_HIGHEST = 4
_IGNORE = 255


def _list_jobs(root: Path, label_root: Path) -> list[Job]:
    base = root / "crackforest"
    images = {path.stem: path for path in base.joinpath("image").glob("*.jpg")}
    sources = {path.stem: path for path in base.joinpath("groundTruth").glob("*.mat")}
    images = {stem: path for stem, path in images.items() if stem in sources}
    check_partners("crackforest", images, sources)
    jobs = []
    for number, stem in enumerate(sorted(images), start=1):
        split = "train" if number % 4 else "val"
        jobs.append(
            Job(
                split,
                image=base / "images" / split / images[stem].name,
                source=sources[stem],
                label=label_root / split / f"{stem}.png",
                image_source=images[stem],
            )
        )
    return jobs


def _read(job: Job) -> dict[Path, np.ndarray | Path]:
    truth = loadmat(job.source)["groundTruth"]
    values = np.asarray(truth["Segmentation"][0, 0])
    if values.min() < 1 or values.max() > _HIGHEST:
        found = sorted(set(np.unique(values).tolist()) - set(range(1, _HIGHEST + 1)))
        raise ValueError(f"Segmentation must hold 1 (road) to {_HIGHEST} (crack), got {found[:8]}")
    return {job.image: job.image_source, job.label: (values > 1).astype(np.uint8)}


CRACKFOREST = Preparation(
    name="crackforest",
    counts={"train": 89, "val": 29},
    num_classes=len(CRACKFOREST_CLASSES),
    ignore_label=_IGNORE,
    sources=(
        Source("crackforest/image", _ORIGIN),
        Source("crackforest/groundTruth", _ORIGIN),
    ),
    label_root="crackforest/labels",
    list_jobs=_list_jobs,
    read=_read,
)
