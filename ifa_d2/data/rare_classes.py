"""Repeating the pictures of rare classes in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data.samplers import RepeatFactorTrainingSampler
from torch import Tensor

from .labels import read_label


def repeat_factors(records: Sequence[Mapping[str, Any]], threshold: float) -> Tensor:
    """How often each picture is shown in an epoch, by the rarest class in its label.

    ``max(1, sqrt(threshold / f))``, f the share of pictures that show the class, as Detectron2 has
    it for instances (Gupta et al. 2019, "LVIS", Sec. B.2).

    Args:
        records: of Detectron2's format, with a ``sem_seg_file_name`` each; all labels are read.
        threshold: f below which a class is rare, in (0, 1].

    Returns:
        (N,) float32, 1 or above.

    Raises:
        ValueError: a threshold out of its range, or a record without label.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"repeat_threshold must be in (0, 1], got {threshold}")
    shown = [{"annotations": [{"category_id": one} for one in _classes(r)]} for r in records]
    return RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(shown, threshold)


def _classes(record: Mapping[str, Any]) -> list[int]:
    """Ids in the label of a record, but the one to ignore."""
    if "sem_seg_file_name" not in record:
        raise ValueError(
            f"repeat_threshold needs labels, and {record['file_name']!r} has no sem_seg_file_name"
        )
    label = read_label(record["sem_seg_file_name"], table=record.get("label_table"))
    ids = np.unique(label).tolist()
    return [one for one in ids if one != record.get("ignore_label", 255)]
