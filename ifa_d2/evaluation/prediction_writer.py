"""Predictions of a data set, written to files."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from PIL import Image
from torch import Tensor

from ..choices import PREDICTION_FORMATS
from ..data.registration import default_colors
from ..data.sem_seg_folder import expand_path
from ..extras import check_extra
from ..files import atomic_path, check_outputs
from .predictions import check_logits, predicted_labels

_logger = logging.getLogger(__name__)

_ROWS = 64  # of probabilities made at once


def check_unused(output_dir: str | os.PathLike[str], formats: Sequence[str]) -> None:
    """Check that the folders of formats are empty, so that predictions do not mix.

    Args:
        output_dir, formats: see :class:`PredictionWriter`.

    Raises:
        ValueError: a format's folder holds files, or is a file; the message names it.
    """
    for folder in (Path(output_dir, name) for name in formats):
        held = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
        first = folder if folder.is_file() else next(held, None)
        if first is not None:
            raise ValueError(
                f"predictions need a new or empty folder, but {folder} holds files already, such "
                f"as {first.name}: name another, or remove them first"
            )


class PredictionWriter(DatasetEvaluator):
    """Write predictions to files; there are no metrics, and no labels are needed.

    Each format has a folder of its own below ``output_dir``:

    - ``ids/``: PNG of class ids, 8 bits a pixel or, for more than 256 classes, 16;
    - ``palette/``: same ids, as an 8-bit PNG that shows the data set's colours;
    - ``cityscapes/``: the Cityscapes server's format, ``<image>_pred.png`` without sub-folders,
      with the ids of Cityscapes' own list (road is 7);
    - ``probabilities/``: ``.npy`` of (K, H, W) float16. It is not compressed, so that it is
      written in bands, and ``numpy.load(path, mmap_mode="r")`` reads any window of it;
      float16 is off by less than 0.0003. It takes 2 K bytes a pixel.

    All but ``cityscapes/`` name files as the images below their root, with another suffix.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        formats: Sequence[str] = ("ids",),
        distributed: bool = True,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with ``stuff_classes``.
            output_dir: where the files go; made if it is not there.
            formats: one or more of the formats above.
            distributed: all processes write, and wait for each other in the end.

        Raises:
            ValueError: an unknown format, or one that does not fit the data set's classes.
        """
        formats = tuple(formats)
        if not formats or not set(formats) <= set(PREDICTION_FORMATS):
            raise ValueError(
                f"formats must be some of {list(PREDICTION_FORMATS)}, got {list(formats)}"
            )
        metadata = MetadataCatalog.get(dataset_name)
        if not hasattr(metadata, "stuff_classes"):
            raise ValueError(
                "dataset_name must be a registered data set with stuff_classes, got "
                f"{dataset_name!r}"
            )
        self._metadata = metadata
        self._output_dir = Path(output_dir)
        self._distributed = distributed
        self._num_classes = len(metadata.stuff_classes)
        self._formats = tuple(dict.fromkeys(formats))
        makers = {"ids": _plain_ids, "palette": _Palette, "cityscapes": _CityscapesIds}
        self._draw: dict[str, Callable[[np.ndarray], Image.Image]] = {
            name: makers[name](metadata) for name in self._formats if name in makers
        }
        self.reset()

    def reset(self) -> None:
        """Start anew; files that are there are overwritten."""
        self._images: dict[Path, str] = {}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the predictions of some images.

        Args:
            inputs: with ``file_name``, and maybe ``sem_seg_file_name``.
            outputs: with ``sem_seg``, logits (K, H, W) or labels (H, W).

        Raises:
            ValueError: a prediction that is not of the data set's classes, labels where
                probabilities are asked for, two images whose predictions have one name, or a
                prediction that would replace a picture or a label.
        """
        for one, output in zip(inputs, outputs, strict=True):
            file_name, sem_seg = one["file_name"], output["sem_seg"]
            read = {"picture": [file_name], "label": [one.get("sem_seg_file_name")]}
            check_outputs([self._path(name, file_name) for name in self._formats], read)
            if "probabilities" in self._formats:
                path = self._path("probabilities", file_name)
                _write_probabilities(path, sem_seg, self._num_classes, file_name)
            if self._draw:
                labels = predicted_labels(sem_seg, self._num_classes, file_name)
            for name, draw in self._draw.items():
                with atomic_path(self._path(name, file_name)) as temporary:
                    draw(labels).save(temporary, format="PNG")

    def _path(self, format_name: str, file_name: str) -> Path:
        """Path of an image's prediction; raise if another image has it."""
        name = _file_of(format_name, file_name, self._metadata)
        path = self._output_dir / format_name / name
        if self._images.setdefault(path, file_name) != file_name:
            raise ValueError(
                f"the predictions of {self._images[path]!r} and {file_name!r} would both be "
                f"{str(path)!r}"
            )
        return path

    def evaluate(self) -> None:
        """Log the number of files; there are no metrics."""
        count = len(self._images)
        if self._distributed:
            count = sum(comm.all_gather(count))
        folders = ", ".join(str(self._output_dir / name) for name in self._formats)
        _logger.info(f"Wrote {count} predictions to {folders}")


def _plain_ids(metadata: Metadata) -> Callable[[np.ndarray], Image.Image]:
    """Convert labels to a grey picture, of 8 or 16 bits as they are."""
    return Image.fromarray


class _Palette:
    """Converter of labels to a picture in the data set's colours."""

    def __init__(self, metadata: Metadata) -> None:
        count = len(metadata.stuff_classes)
        if count > 256:
            raise ValueError(
                f"formats: a palette holds 256 classes, but {metadata.name} has {count}; use 'ids'"
            )
        colors = metadata.get("stuff_colors") or default_colors(count)
        self._colors = np.asarray(colors, np.uint8).tobytes()

    def __call__(self, labels: np.ndarray) -> Image.Image:
        image = Image.fromarray(labels.astype(np.uint8, copy=False))
        image.putpalette(self._colors)
        return image


class _CityscapesIds:
    """Converter of labels to a picture of Cityscapes' own ids, by the classes' names."""

    def __init__(self, metadata: Metadata) -> None:
        check_extra("cityscapes", "formats: 'cityscapes'")
        from cityscapesscripts.helpers.labels import name2label

        unknown = [name for name in metadata.stuff_classes if name not in name2label]
        if unknown:
            raise ValueError(
                f"formats: 'cityscapes' needs its classes, but {metadata.name} has {unknown[:5]}"
            )
        ids = [name2label[name].id for name in metadata.stuff_classes]
        self._ids = np.asarray(ids, np.uint8)

    def __call__(self, labels: np.ndarray) -> Image.Image:
        return Image.fromarray(self._ids[labels])


def _file_of(format_name: str, file_name: str, metadata: Metadata) -> Path:
    """Path of an image's prediction below its format's folder."""
    if format_name == "cityscapes":
        return Path(f"{Path(file_name).stem}_pred.png")
    # Detectron2 says image_dir for Cityscapes and image_root for others.
    root = metadata.get("image_root") or metadata.get("image_dir")
    relative = Path(file_name).name
    if root is not None:
        below = os.path.relpath(os.path.abspath(file_name), os.path.abspath(expand_path(root)))
        relative = relative if below.startswith(os.pardir) else below
    return Path(relative).with_suffix(".npy" if format_name == "probabilities" else ".png")


def _write_probabilities(path: Path, sem_seg: Tensor, num_classes: int, file_name: str) -> None:
    check_logits(sem_seg, num_classes, file_name, "probabilities")
    _, height, width = sem_seg.shape
    header = {"descr": "<f2", "fortran_order": False, "shape": tuple(sem_seg.shape)}
    # Written, not mapped: on a full disk a store into a map ends the process.
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for top in range(0, height, _ROWS):
            band = sem_seg[:, top : top + _ROWS].detach().float().softmax(dim=0)
            rows = band.half().cpu().numpy().astype("<f2", copy=False)
            for index in range(num_classes):
                file.seek(start + 2 * width * (height * index + top))
                file.write(np.ascontiguousarray(rows[index]))
