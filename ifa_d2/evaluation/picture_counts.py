"""Counts of each picture of an evaluation, of which intervals are made.

Shape legend: N pictures, L counts of a picture.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from ..files import atomic_path
from ..metrics.segmentation import SegmentationMetrics

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PICTURE_COUNTS = "picture_counts.npz"


@dataclass(frozen=True)
class PictureCounts:
    """Counts of an evaluation's pictures, by the metrics that they are of.

    Attributes:
        options: of :class:`ifa_d2.metrics.SegmentationMetrics`.
        pictures: their N files, below the folder that has them all.
        counts: of each, (N, L) integers; sparse, as a picture has few of many classes.
    """

    options: Mapping[str, Any]
    pictures: tuple[str, ...]
    counts: "csr_array"

    @classmethod
    def of(
        cls, metrics: SegmentationMetrics, found: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> "PictureCounts":
        """Gather what :func:`nonzero_counts` has made for each picture's file."""
        from scipy.sparse import csr_array  # here: training needs no SciPy

        folder = os.path.commonpath([os.path.dirname(path) for path in found])
        places, values = zip(*found.values(), strict=True)
        ends = np.cumsum([0, *map(len, places)])
        shape = (len(found), sum(one.size for one in metrics.counts))
        counts = csr_array((np.concatenate(values), np.concatenate(places), ends), shape)
        pictures = tuple(os.path.relpath(path, folder or ".") for path in found)
        return cls(metrics.options, pictures, counts)

    @property
    def total(self) -> np.ndarray:
        """Counts of all pictures (L,)."""
        return np.asarray(self.counts.sum(axis=0))

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Compute figures in percent, (*R) each, of (*R, L) counts of whole data sets."""
        whole = SegmentationMetrics(**self.options)
        ends = np.cumsum([one.size for one in whole.counts])[:-1]
        whole.counts = [
            part.reshape(counts.shape[:-1] + one.shape)
            for part, one in zip(np.split(counts, ends, axis=-1), whole.counts, strict=True)
        ]
        return whole.compute()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file; arrays and text, nothing that has to be unpickled."""
        content = {
            "options": json.dumps(self.options),
            "pictures": json.dumps(self.pictures),
            "values": self.counts.data,
            "places": self.counts.indices,
            "ends": self.counts.indptr,
            "shape": self.counts.shape,
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **content)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "PictureCounts":
        """Read the file of :meth:`write`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is another file, or damaged.
        """
        from scipy.sparse import csr_array

        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path} does not exist: evaluate with dataloader.evaluator.picture_counts=True"
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                options, pictures = (json.loads(str(file[key])) for key in ("options", "pictures"))
                parts = tuple(file[key] for key in ("values", "places", "ends"))
                counts = csr_array(parts, tuple(file["shape"].tolist()))
                return cls(options, tuple(pictures), counts)
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} does not hold counts of pictures: {error}") from error


def nonzero_counts(counts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Find where a picture's counts, of ``SegmentationMetrics.update``, are not 0, and these."""
    flat = np.concatenate([part.ravel() for part in counts])
    places = np.flatnonzero(flat)
    return places, flat[places]


def check_alike(evaluations: Sequence[tuple[str, PictureCounts]]) -> None:
    """Check that evaluations, named for errors, are of the same pictures and metrics.

    Raises:
        ValueError: they are not.
    """
    (first, one), *others = evaluations
    for name, other in others:
        if other.pictures != one.pictures:
            raise ValueError(
                f"{first} and {name} must be of the same pictures, got {len(one.pictures)} from "
                f"{one.pictures[0]!r} and {len(other.pictures)} from {other.pictures[0]!r} on"
            )
        different = [key for key in one.options if other.options.get(key) != one.options[key]]
        if different:
            key = different[0]
            raise ValueError(
                f"{first} and {name} must be counted alike, got {key} {one.options[key]} and "
                f"{other.options.get(key)}"
            )
