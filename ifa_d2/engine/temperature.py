"""Temperature of a trained model: pixels of a data set to fit it on, and its checkpoint."""

import os
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from torch import nn
from tqdm import tqdm

from ..checkpoints.foreign_weights import read_weights_file
from ..data.catalog import check_name
from ..data.labels import read_record_classes
from ..evaluation.calibration import LogitSample
from ..modeling.packaged_weights import BACKBONE_WEIGHTS
from .checkpoint import Checkpointer
from .predictor import Predictor


def sample_logits(
    predictor: Predictor, dataset_name: str, *, pixels: int = 100_000, seed: int = 0
) -> LogitSample:
    """Decode labelled pixels of a data set, as many of each picture.

    The logits are those of a picture that is shown once and whole, after the test's resize. Only
    the chosen pixels are decoded, and all of them are held.

    Args:
        predictor: of the model.
        dataset_name: a registered data set with labels, of the model's classes.
        pixels: of all pictures together, at most about that many.
        seed: of the choice.

    Raises:
        ValueError: no such data set, or one of other classes or without labels in two pictures; a
            label that is no class; ``pixels`` below 1.
    """
    check_name(dataset_name, "dataset")
    metadata = MetadataCatalog.get(dataset_name)
    num_classes, found = predictor.model.sem_seg_head.num_classes, metadata.get("stuff_classes", ())
    if len(found) != num_classes:
        raise ValueError(
            f"dataset must have {num_classes} classes, as the model, got {len(found)} of "
            f"{dataset_name!r}"
        )
    if pixels < 1:
        raise ValueError(f"pixels must be at least 1, got {pixels}")
    records = [one for one in DatasetCatalog.get(dataset_name) if one.get("sem_seg_file_name")]
    most = -(-pixels // max(1, len(records)))
    rng = np.random.default_rng(seed)
    parts: list[LogitSample] = []
    for index, record in enumerate(tqdm(records, desc="decoding", unit="picture")):
        labels = read_record_classes(record, metadata)
        known = np.flatnonzero(labels < num_classes)
        if not len(known):
            continue
        chosen = rng.choice(known, min(most, len(known)), replace=False)
        field = predictor(record["file_name"])
        if labels.shape != field.image_size:
            raise ValueError(
                f"label {record['sem_seg_file_name']!r} has (height, width) {labels.shape}, but "
                f"the picture {field.image_size}"
            )
        field.temperature = 1.0
        places = (np.stack(np.unravel_index(chosen, labels.shape), axis=1) + 0.5) / labels.shape
        count = len(chosen)
        parts.append(
            LogitSample(
                logits=field.at(places).float().cpu(),
                labels=torch.from_numpy(labels.flat[chosen].astype(np.int64)),
                weights=torch.full((count,), len(known) / count, dtype=torch.double),
                pictures=torch.full((count,), index),
            )
        )
    if len(parts) < 2:
        raise ValueError(
            f"dataset must have labelled pixels in 2 pictures or more, got {dataset_name!r} with "
            f"{len(parts)}: half of them measure what the others have fitted"
        )
    return LogitSample.joined(parts)


def save_with_temperature(
    model: nn.Module, weights: str, temperature: float, path: str | os.PathLike[str]
) -> None:
    """Write a checkpoint anew, with a temperature for its model.

    Args:
        model: that ``weights`` were loaded into; its head gets the temperature.
        weights: the checkpoint; what it holds besides the model, such as the state of its training,
            is kept.
        temperature: of the model.
        path: of the new file, which ends in .pth.

    Raises:
        ValueError: another suffix.
    """
    check_checkpoint_path(path)
    content = read_weights_file(PathManager.get_local_path(weights))
    others = {key: content[key] for key in content if key not in ("model", BACKBONE_WEIGHTS)}
    model.sem_seg_head.temperature = temperature
    path = Path(path)
    Checkpointer(model, str(path.parent)).save(path.stem, tag=False, **others)


def check_checkpoint_path(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError unless a path ends as checkpoints do."""
    if Path(path).suffix != ".pth":
        raise ValueError(f"output must end in .pth, got {os.fspath(path)!r}")
