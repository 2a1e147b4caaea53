"""Conversion of a data set's labels, file by file; finished files are kept."""

import logging
import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from iopath.common.file_io import file_lock
from PIL import Image

from ...files import atomic_path
from ..labels import read_label, translate_label
from ..parallel import check_workers, run_parallel
from ..pictures import picture_size
from .base import Job, Preparation, check_sources, error_text, name_some

_logger = logging.getLogger(__name__)


def prepare(
    preparation: Preparation,
    root: str | os.PathLike[str],
    *,
    workers: int = 1,
    allow_partial: bool = False,
) -> dict[str, int]:
    """Make missing or wrong label files, and check all of them.

    It can be run again at any time: a killed run is resumed, and a complete data set is only
    checked. Two runs at the same time wait for each other.

    Args:
        preparation: the data set
        root: the folder of all data sets
        workers: processes
        allow_partial: other numbers of images than the published ones are a warning

    Returns:
        The number of images of each split.

    Raises:
        ValueError: ``workers`` below 1; missing files; wrong numbers of images; files that cannot
            be read, have another size than their image or hold ids that are no class. The message
            names files, published ones rather than those made of them.
    """
    check_workers(workers)
    root = Path(os.path.abspath(os.path.expanduser(root)))
    if not root.is_dir():
        raise ValueError(f"root {str(root)!r} is not a folder")
    check_sources(preparation, root)
    with file_lock(str(root / f".prepare_{preparation.name}")):
        if preparation.label_root is None:
            counts, jobs = _list(preparation, root, root, allow_partial)
            _finish_all(preparation, jobs, workers)
            return counts
        final = root / preparation.label_root
        staged = final.with_name(f"{final.name}.partial")
        counts, jobs = _list(preparation, root, final, allow_partial)
        if final.is_dir():
            if staged.exists() or all(job.label.is_file() for job in jobs):
                _finish_all(preparation, jobs, workers)
                _check_extra(final, jobs)
                return counts
            os.replace(final, staged)
        jobs = preparation.list_jobs(root, staged)
        _finish_all(preparation, jobs, workers)
        _check_extra(staged, jobs)
        os.replace(staged, final)
    return counts


def _list(
    preparation: Preparation, root: Path, label_root: Path, allow_partial: bool
) -> tuple[dict[str, int], list[Job]]:
    """List the jobs, and check their number in each split against the published one."""
    jobs = preparation.list_jobs(root, label_root)
    found = Counter(job.split for job in jobs)
    counts = {split: found[split] for split in preparation.counts}
    wrong = [
        f"{counts[split]} of {expected} images of {split}"
        for split, expected in preparation.counts.items()
        if counts[split] != expected
    ]
    if wrong:
        message = f"{preparation.name} has {' and '.join(wrong)}"
        if not allow_partial or not jobs:
            raise ValueError(
                f"{message}: unpack what is missing, or pass --allow-partial for a part of it"
            )
        _logger.warning(message)
    return counts, jobs


def _finish_all(preparation: Preparation, jobs: list[Job], workers: int) -> None:
    """Make and check every label file; raise with all faults."""
    for folder in {path.parent for job in jobs for path in (job.label, job.image)}:
        for leftover in folder.glob(".*.tmp"):  # of a run that was killed; nobody else is at work
            leftover.unlink()
    finish = partial(_finish, preparation)
    results = run_parallel(finish, jobs, workers=workers, description=preparation.name)
    faults = [fault for fault in results if fault is not None]
    if faults:
        header = f"{preparation.name}: {len(faults)} of {len(jobs)} images cannot be used:"
        raise ValueError("\n".join([header, *name_some(faults)]))


def _finish(preparation: Preparation, job: Job) -> str | None:
    """Make one label file unless it is there and right; returns its remaining fault."""
    if _fault(preparation, job) is None:
        return None
    try:
        contents = preparation.read(job)
    except (Exception, SystemExit) as error:  # readers raise anything; cityscapesscripts exits
        reason = error_text(error)
        if str(job.source) in reason:
            return reason
        return f"{job.source}: cannot be read: {reason}"
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            if isinstance(content, np.ndarray):
                deep = content.dtype.itemsize > 1
                pixels = content.astype(np.uint16) if deep else content
                Image.fromarray(pixels).save(temporary, format="PNG")
            else:
                temporary.write_bytes(content.read_bytes())
    return _fault(preparation, job)


def _fault(preparation: Preparation, job: Job) -> str | None:
    """Find the fault of an image and its label file; None if there is none.

    It names the published file: files made of it are replaced if they are wrong.
    """
    image = job.image_source or job.image
    try:
        for path in job.others:
            if not path.is_file():
                return f"{path}: is missing"
        label = read_label(str(job.label))
        size = picture_size(str(job.image))
        if label.shape != size:
            return (
                f"{job.source}: has (height, width) {label.shape}, but its image {image} has {size}"
            )
        translate_label(
            label,
            str(job.source),
            num_classes=preparation.num_classes,
            ignore_label=preparation.ignore_label,
            ignore_value=preparation.ignore_label,
        )
    except (OSError, ValueError) as error:
        return str(error).replace(str(job.image), str(image))
    return None


def _check_extra(label_root: Path, jobs: list[Job]) -> None:
    known = {job.label for job in jobs}
    extra = [str(path) for path in sorted(label_root.rglob("*.png")) if path not in known]
    if extra:
        header = f"{len(extra)} label file(s) belong to no image of the data set; remove them:"
        raise ValueError("\n".join([header, *name_some(extra)]))
