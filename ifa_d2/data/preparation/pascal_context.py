"""PASCAL Context: 59 classes from the 459 ids of the published .mat files, by name.

`labels.txt` names the 459 ids and `59_labels.txt` the 59 classes; the splits are VOC2010's.
Form "59" ignores pixels of other ids, form "60" has them as class 0, "background".
"""

import re
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from ..builtin import CONTEXT_CLASSES, CONTEXT_IGNORE
from .base import Job, Preparation, Source, check_files

_LINE = re.compile(r"\s*(\d+)\s*:?\s*(.*\S)\s*")
# 59_labels.txt spells three classes otherwise than labels.txt.
_SPELLINGS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
_PAGE = "https://www.cs.stanford.edu/~roozbeh/pascal-context"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar"
_VOC_FOLDER = "VOCdevkit/VOC2010"


def read_names(path: Path) -> dict[int, str]:
    """Read names by id from lines "id: name"; spaces in names are dropped.

    Raises:
        ValueError: a line of another form, or an id or a name that comes twice.
    """
    names: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        name = match[2].replace(" ", "") if match else ""
        if match is None or int(match[1]) in names or name in names.values():
            raise ValueError(f"{path}: lines must be 'id: name', each once, got {line!r}")
        names[int(match[1])] = name
    return names


@cache
def class_table(folder: Path) -> np.ndarray:
    """Classes 1..59 by id of the .mat files, 0 for other ids, (largest id + 1,) uint8.

    Args:
        folder: of labels.txt and 59_labels.txt

    Raises:
        ValueError: the lists do not name the 59 classes.
    """
    published = read_names(folder / "59_labels.txt").values()
    classes = {_SPELLINGS.get(name, name) for name in published} - {"background"}
    if classes != set(CONTEXT_CLASSES):
        written = {name: spelling for spelling, name in _SPELLINGS.items()}
        absent = {written.get(name, name) for name in set(CONTEXT_CLASSES) - classes}
        faults = (("missing", absent), ("unknown", classes - set(CONTEXT_CLASSES)))
        text = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in faults if names)
        raise ValueError(f"{folder / '59_labels.txt'} must name the 59 classes; {text}")
    names = read_names(folder / "labels.txt")
    ids = {name: number for number, name in names.items()}
    absent = [name for name in CONTEXT_CLASSES if name not in ids]
    if absent:
        raise ValueError(f"{folder / 'labels.txt'} does not name {', '.join(absent)}")
    table = np.zeros(max(names) + 1, np.uint8)
    for index, name in enumerate(CONTEXT_CLASSES, start=1):
        table[ids[name]] = index
    return table


def _list_jobs(root: Path, label_root: Path) -> list[Job]:
    voc, jobs = root / _VOC_FOLDER, []
    class_table(root / "pascal_context")  # faults of the lists are raised once, here
    for split in ("train", "val"):
        text = (voc / "ImageSets" / "Main" / f"{split}.txt").read_text(encoding="utf-8")
        for name in sorted({line.split()[0] for line in text.splitlines() if line.strip()}):
            image = voc / "JPEGImages" / f"{name}.jpg"
            source = root / "pascal_context" / "trainval" / f"{name}.mat"
            jobs.append(Job(split, image, source, label_root / split / f"{name}.png"))
    check_files("pascal_context", [path for job in jobs for path in (job.image, job.source)])
    return jobs


def _read(job: Job, *, background: bool) -> dict[Path, np.ndarray | Path]:
    ids = np.asarray(loadmat(job.source)["LabelMap"]).astype(np.int64)
    table = class_table(job.source.parents[1])
    if ids.min(initial=0) < 0 or ids.max(initial=0) >= len(table):
        raise ValueError(f"its ids must be 0..{len(table) - 1}, got {ids.min()}..{ids.max()}")
    classes = table[ids]
    if not background:
        classes = np.where(classes == 0, np.uint8(CONTEXT_IGNORE), classes - np.uint8(1))
    return {job.label: classes}


def _preparation(form: str, *, background: bool) -> Preparation:
    return Preparation(
        name=f"pascal_context_{form}",
        counts={"train": 4998, "val": 5105},
        num_classes=len(CONTEXT_CLASSES) + background,
        ignore_label=CONTEXT_IGNORE,
        sources=(
            Source(f"{_VOC_FOLDER}/JPEGImages", _VOC),
            Source(f"{_VOC_FOLDER}/ImageSets/Main/train.txt", _VOC),
            Source(f"{_VOC_FOLDER}/ImageSets/Main/val.txt", _VOC),
            Source("pascal_context/trainval", f"{_PAGE}/trainval.tar.gz"),
            Source("pascal_context/labels.txt", f"{_PAGE}/trainval.tar.gz or {_PAGE}/labels.txt"),
            Source("pascal_context/59_labels.txt", f"{_PAGE}/59_labels.txt"),
        ),
        label_root=f"pascal_context/annotations_{form}",
        list_jobs=_list_jobs,
        read=partial(_read, background=background),
    )


PASCAL_CONTEXT_59 = _preparation("59", background=False)
PASCAL_CONTEXT_60 = _preparation("60", background=True)
