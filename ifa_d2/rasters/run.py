"""From a raster and a predictor to a raster of labels."""

import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rasterio.io import DatasetReader
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes
from tqdm import tqdm

from ..data.parallel import leave_with_parent
from ..engine import Predictor
from ..engine.output_dir import locked_output
from ..errors import error_sentence
from ..evaluation.label_tiff import write_bands
from ..files import check_outputs
from ..modeling.picture_fields import padding_divisor
from ..modeling.views import Size
from .journal import block_file, journal_folder, model_digest, open_journal
from .labels import block_labels, label_type
from .output import assemble, check_georeference
from .plan import WINDOW, RasterPlan, plan_raster
from .source import RasterSource, opened

_SUFFIXES = (".tif", ".tiff")
_TILE = 256  # of a block's file
_POLL_SECONDS = 0.5


def segment_raster(
    predictor: Predictor,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scale: float | None = None,
    ground_distance: float | None = None,
    window: Sequence[int] = WINDOW,
    stride: float | Sequence[float] = 2 / 3,
    blend: str | None = None,
    batch_size: int = 1,
    num_processes: int = 1,
    resume: bool = False,
    colors: Sequence[Sequence[int]] | None = None,
) -> Size:
    """Segment a raster of any size, and write its labels as a Cloud-optimised GeoTIFF.

    The raster is read window by window. Finished blocks of labels are kept in a folder beside the
    output until that is whole. The bytes of the output depend neither on the number of processes,
    each of which computes on one processor, nor on how often the run was interrupted.

    Args:
        predictor: of a semantic model, without a resize before it.
        source: a file that GDAL reads; see :meth:`RasterSource.from_file`.
        output: a .tif that is not there yet. Its largest value, 255 or for more than 255 classes
            65535, is where the raster has no data.
        scale: samples of the answer for a pixel, along each axis; None is 1.
        ground_distance: metres between samples, instead of ``scale``.
        window, stride, blend: see :func:`plan_raster`.
        batch_size: windows that pass the model at once.
        num_processes: that compute blocks, on a CPU.
        resume: go on with a run that was interrupted, if there is one.
        colors: (R, G, B) of each class for the file's colour table; None writes none.

    Returns:
        (height, width) of the answer.

    Raises:
        OSError: a file that cannot be read or written.
        ValueError: a value out of range, by name; a raster or a predictor that does not fit; an
            output that is there; blocks of another run.
    """
    output, model = Path(output), predictor.model
    _check(predictor, output, batch_size, num_processes)
    check_outputs([output], {"raster": [source]})
    num_classes = model.sem_seg_head.num_classes
    if colors is not None and len(colors) != num_classes:
        raise ValueError(f"colors must be of {num_classes} classes, got {len(colors)}")
    mean = model.pixel_mean.flatten().tolist()
    raster = RasterSource.from_file(source, mean, predictor.image_format, predictor.nodata)
    with opened(source) as dataset:
        output_size = _output_size(dataset, scale, ground_distance)
        check_georeference(dataset, output_size)
    plan = plan_raster(
        raster.size,
        output_size,
        num_classes,
        multiple=padding_divisor(model),
        window=window,
        stride=stride,
        blend=blend,
    )
    job = _Job(model, raster, plan, journal_folder(output), batch_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    with locked_output(job.folder, kind="another run", key="output"):
        open_journal(job.folder, job.identity(), resume=resume)
        with _one_thread():
            job.run(num_processes)
        files = [block_file(job.folder, i) for i in range(len(plan.blocks))]
        dtype = label_type(num_classes)
        whole = assemble(job.folder, files, plan, source=raster.path, dtype=dtype, colors=colors)
        os.replace(whole, output)
    shutil.rmtree(job.folder)
    return output_size


@dataclass(frozen=True)
class _Job:
    """Blocks to compute, and where they go."""

    model: nn.Module
    raster: RasterSource
    plan: RasterPlan
    folder: Path
    batch_size: int

    def run(self, num_processes: int) -> None:
        """Compute what is not there yet, with a bar of the windows that are done."""
        total = sum(block.num_windows for block in self.plan.blocks)
        pending = [
            i for i in range(len(self.plan.blocks)) if not block_file(self.folder, i).is_file()
        ]
        done = total - sum(self.plan.blocks[i].num_windows for i in pending)
        bar = {
            "total": total,
            "initial": done,
            "desc": "segmenting",
            "unit": "window",
            "miniters": 1,
        }
        if num_processes == 1 or len(pending) < 2:
            with tqdm(**bar) as progress:
                for index in pending:
                    self.write(index, progress.update)
            return
        self._run_together(min(num_processes, len(pending)), pending, bar)

    def identity(self) -> dict[str, Any]:
        """All that labels depend on."""
        raster, plan = self.raster, self.plan
        status = os.stat(raster.path) if os.path.exists(raster.path) else None
        return {
            "input": [status.st_size, status.st_mtime_ns] if status else raster.path,
            "bands": list(raster.bands),
            **({} if raster.nodata is None else {"nodata": raster.nodata}),
            "size": list(plan.size),
            "output_size": list(plan.output_size),
            "window": list(plan.window),
            "stride": list(plan.stride),
            "blend": plan.blend,
            "batch_size": self.batch_size,
            "model": model_digest(self.model),
            "device": self.model.pixel_mean.device.type,
            "torch": torch.__version__,
            "blocks": [[part.start, part.stop] for b in plan.blocks for part in (b.rows, b.cols)],
        }

    def write(self, index: int, progress: Callable[[int], Any]) -> None:
        """Compute one block and write its file."""
        block = self.plan.blocks[index]
        labels = block_labels(self.model, self.raster, block, self.batch_size, progress)
        bands = (labels[top : top + _TILE] for top in range(0, len(labels), _TILE))
        path = block_file(self.folder, index)
        write_bands(path, bands, labels.shape, labels.dtype, tile=_TILE)

    def _run_together(self, count: int, pending: list[int], bar: dict[str, Any]) -> None:
        # A forked process has what is imported and the model; importing takes seconds otherwise.
        method = "fork" if sys.platform == "linux" else "spawn"
        context = multiprocessing.get_context(method)
        taken, done = context.Value("Q", 0), context.Value("Q", 0)
        arguments = (self, pending, taken, done)
        processes = start_processes(
            _work, arguments, nprocs=count, join=False, start_method=method
        )  # before tqdm starts its thread
        try:
            with tqdm(**bar) as progress:
                finished = False
                while not finished:
                    finished = processes.join(_POLL_SECONDS)
                    progress.update(bar["initial"] + done.value - progress.n)
        except ProcessRaisedException as error:
            raise ValueError(error_sentence(error)) from None
        except ProcessExitedException as error:
            raise ValueError(
                f"a process was ended ({error.signal_name or error.exit_code}), as the system does "
                "where memory runs out: go on with --resume and a smaller num_processes"
            ) from None
        finally:
            for process in processes.processes:
                process.terminate()
                process.join()


def _work(rank: int, job: _Job, pending: list[int], taken: Any, done: Any) -> None:
    """Compute blocks of a list, as long as there are some that nobody has taken."""
    leave_with_parent()  # a background job's processes ignore the interrupt that torch sends them
    torch.set_num_threads(1)

    def progress(windows: int) -> None:
        with done.get_lock():
            done.value += windows

    for _ in pending:
        with taken.get_lock():
            index, taken.value = taken.value, taken.value + 1
        if index >= len(pending):
            return
        job.write(pending[index], progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one processor: on several, sums are rounded in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(predictor: Predictor, output: Path, batch_size: int, num_processes: int) -> None:
    """Raise a ValueError for what can be told before the raster is looked at."""
    if predictor.is_panoptic:
        raise ValueError(
            "model must be a semantic segmentor: a panoptic one, whose instances windows would "
            "cut, is not for rasters"
        )
    if predictor.augmentations.augs:
        raise ValueError(
            f"dataloader.test.mapper.augmentations {predictor.augmentations.augs} are of whole "
            "pictures, which a raster is not read as: set them to [] (INPUT.MIN_SIZE_TEST 0 in a "
            ".yaml)"
        )
    for name, value in (("batch_size", batch_size), ("num_processes", num_processes)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if num_processes > 1 and predictor.model.pixel_mean.device.type != "cpu":
        raise ValueError(f"num_processes must be 1 on a GPU, got {num_processes}")
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"output must end in .tif or .tiff, got {output}")
    if output.exists():
        raise ValueError(f"output {output} is there already: remove it, or name another")


def _output_size(
    dataset: DatasetReader, scale: float | None, ground_distance: float | None
) -> Size:
    """(height, width) of the answer in samples."""
    scales = (1.0, 1.0)
    if scale is not None and ground_distance is not None:
        raise ValueError("scale and ground_distance must not both be given")
    for name, value in (("scale", scale), ("ground_distance", ground_distance)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above 0, got {value}")
    if scale is not None:
        scales = (scale, scale)
    if ground_distance is not None:
        scales = tuple(size / ground_distance for size in _pixel_metres(dataset))
    sides = zip((dataset.height, dataset.width), scales, strict=True)
    size = tuple(max(1, int(side * factor + 0.5)) for side, factor in sides)
    if max(size) > np.iinfo(np.int32).max:
        raise ValueError(f"the answer would have {size[0]} x {size[1]} samples: ask for less")
    return size


def _pixel_metres(dataset: DatasetReader) -> tuple[float, float]:
    """Height and width of a pixel in metres."""
    crs = dataset.crs
    if crs is None or not crs.is_projected or dataset.transform.is_identity:
        system = "none" if crs is None else crs.to_string()
        raise ValueError(
            f"ground_distance needs a raster in metres or feet, but the coordinate system of "
            f"{dataset.name} is {system}: give scale instead"
        )
    t, metres = dataset.transform, crs.linear_units_factor[1]
    return math.hypot(t.b, t.e) * metres, math.hypot(t.a, t.d) * metres
