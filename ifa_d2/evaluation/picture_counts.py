"""Counts of each picture of an evaluation, of which intervals are made.

Shape legend: S evaluations, N pictures, L counts of a picture.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..files import atomic_path
from ..metrics.segmentation import SegmentationMetrics

PICTURE_COUNTS = "picture_counts.npz"


@dataclass(frozen=True)
class PictureCounts:
    """Counts of an evaluation's pictures, by the metrics that they are of.

    Attributes:
        options: of :class:`ifa_d2.metrics.SegmentationMetrics`.
        pictures: their N files, below the folder that has them all.
        counts: of each, (N, L) integers.
    """

    options: Mapping[str, Any]
    pictures: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(
        cls, metrics: SegmentationMetrics, found: Mapping[str, Sequence[np.ndarray]]
    ) -> "PictureCounts":
        """Gather what ``SegmentationMetrics.update`` has returned for each picture's file."""
        folder = os.path.commonpath([os.path.dirname(path) for path in found]) if found else ""
        pictures = tuple(os.path.relpath(path, folder or ".") for path in found)
        counts = np.stack([np.concatenate([p.ravel() for p in one]) for one in found.values()])
        return cls(metrics.options, pictures, counts)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Compute figures in percent, (*R) each, of (*R, L) counts of whole data sets."""
        whole = SegmentationMetrics(**self.options)
        ends = np.cumsum([one.size for one in whole.counts])[:-1]
        parts = np.split(counts, ends, axis=-1)
        leading = counts.shape[:-1]
        whole.counts = [
            part.reshape(leading + one.shape) for part, one in zip(parts, whole.counts, strict=True)
        ]
        return whole.compute()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file; arrays and text, nothing that has to be unpickled."""
        counts = self.counts.astype(np.min_scalar_type(int(self.counts.max(initial=0))))
        content = {"options": json.dumps(self.options), "pictures": json.dumps(self.pictures)}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, counts=counts, **content)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "PictureCounts":
        """Read the file of :meth:`write`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is another file, or damaged.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist")
        try:
            with np.load(path, allow_pickle=False) as file:
                options, pictures = (
                    json.loads(str(file[name])) for name in ("options", "pictures")
                )
                return cls(options, tuple(pictures), file["counts"])
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} does not hold counts of pictures: {error}") from error


def stack_counts(evaluations: Sequence[tuple[str, PictureCounts]]) -> np.ndarray:
    """Stack (S, N, L) counts of evaluations, each with a name for errors.

    Raises:
        ValueError: they are of other pictures than each other's, or counted otherwise.
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
    return np.stack([each.counts for _, each in evaluations])
