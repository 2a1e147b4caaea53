"""Counts of a trained model for each validation picture, for intervals and tables.

Shape legend: N pictures, K classes, H x W pixels of a picture.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig
from torch import nn

from ifa_d2.engine import build
from ifa_d2.evaluation.predictions import label_dtype
from ifa_d2.files import atomic_path
from ifa_d2.metrics.boundary import BoundaryCounter, Width
from ifa_d2.metrics.confusion import count_pairs
from ifa_d2.metrics.tolerance import near_counts
from ifa_d2.modeling import SegmentationField, compute_fields

# The size of the model's input as a share of the picture's, and the stride at which the field is
# decoded, in pixels of the picture.
SETTINGS = ("1/8", "1/4", "1/2", "1/1", "0.5/8", "0.5/1", "0.25/16", "0.25/1")
BOUNDARY_WIDTHS = Width.parse("boundary_widths", (0.005, 0.02))
TRIMAP_WIDTH = Width.parse("trimap_width", (3,))[0]
F1_TOLERANCE = 2


@torch.no_grad()
def count_pictures(
    cfg: DictConfig, model: nn.Module, *, settings: Sequence[str] = SETTINGS, f1_class: str = ""
) -> dict[str, dict[str, np.ndarray]]:
    """Count all pictures in each setting.

    Args:
        cfg: of the run; its first test set is evaluated.
        model: in eval mode.
        settings: of :data:`SETTINGS`, or others of that form.
        f1_class: class whose precision and recall with a tolerance are counted; "" for none.

    Returns:
        By setting: ``confusion`` (N, K + 1, K + 1); ``boundary`` (N, widths, K + 1, K + 1), of
        masks near their contours; ``trimap`` (N, K + 1, K + 1); and ``f1`` (N, 4), predicted pixels
        near a true one, predicted, true pixels near a predicted one, true. All int32.

    Raises:
        ValueError: an unknown class.
    """
    name = build.test_dataset_names(cfg)[0]
    classes = list(MetadataCatalog.get(name).stuff_classes)
    if f1_class and f1_class not in classes:
        raise ValueError(f"--f1-class must be one of {classes}, got {f1_class!r}")
    chosen = classes.index(f1_class) if f1_class else None
    counts: dict[str, dict[str, list[np.ndarray]]] = {setting: {} for setting in settings}
    head = model.sem_seg_head
    dtype = label_dtype(head.num_classes)
    for batch in build.build_test_loader(cfg, name):
        for one in batch:
            truth = one["sem_seg"]
            label = truth.masked_fill(truth == head.ignore_value, head.num_classes)
            label = label.numpy().astype(dtype)
            fields: dict[float, SegmentationField] = {}
            for setting in settings:
                scale, stride = float(setting.split("/")[0]), int(setting.split("/")[1])
                if scale not in fields:
                    fields[scale] = compute_fields(model, [_resized(one, scale)])[0]
                prediction = _labels(fields[scale], tuple(truth.shape), stride).astype(dtype)
                found = _count(label, prediction, head.num_classes, chosen)
                for key, value in found.items():
                    counts[setting].setdefault(key, []).append(value)
    return {
        setting: {key: np.stack(values).astype(np.int32) for key, values in found.items()}
        for setting, found in counts.items()
    }


def _resized(one: Mapping, scale: float) -> dict:
    """Resize a picture's input to a share of its size; the answer keeps its size."""
    image, (height, width) = one["image"].float(), one["sem_seg"].shape
    size = (round(height * scale), round(width * scale))
    if size != tuple(image.shape[1:]):
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return {"image": image, "height": height, "width": width}


def _labels(field: SegmentationField, size: tuple[int, int], stride: int) -> np.ndarray:
    """Compute (H, W) labels from logits at every stride-th pixel, interpolated."""
    logits = field.logits([math.ceil(n / stride) for n in size])
    if tuple(logits.shape[1:]) != size:
        logits = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    return logits.argmax(0).cpu().numpy()


def _count(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, chosen: int | None
) -> dict[str, np.ndarray]:
    near = BoundaryCounter(label, prediction, num_classes)
    found = {
        "confusion": count_pairs(label, prediction, num_classes),
        "boundary": np.stack([near.boundary(width) for width in BOUNDARY_WIDTHS]),
        "trimap": near.trimap(TRIMAP_WIDTH),
    }
    if chosen is not None:
        found["f1"] = near_counts(label, prediction, num_classes, chosen, F1_TOLERANCE)
    return found


def write_counts(path: Path, counts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write counts to a file, each array by the name ``setting:kind``."""
    flat = {f"{s}:{kind}": array for s, found in counts.items() for kind, array in found.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **flat)


def read_counts(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the file of :func:`write_counts`."""
    counts: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
        for name in file.files:
            setting, kind = name.split(":")
            counts.setdefault(setting, {})[kind] = file[name]
    return counts
