"""Counts of a trained model for each validation picture, for intervals and tables."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig
from torch import nn

from ifa_d2.engine import build
from ifa_d2.evaluation.picture_counts import PICTURE_COUNTS, PictureCounts, nonzero_counts
from ifa_d2.metrics import SegmentationMetrics
from ifa_d2.modeling import SegmentationField, compute_fields

# The size of the model's input as a share of the picture's, and the stride at which the field is
# decoded, in pixels of the picture.
SETTINGS = ("1/8", "1/4", "1/2", "1/1", "0.5/8", "0.5/1", "0.25/16", "0.25/1")


def parse_setting(setting: str) -> tuple[float, int]:
    """Return the scale of the input and the stride of decoding.

    Raises:
        ValueError: of another form than those of :data:`SETTINGS`.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)/([0-9]+)", setting)
    scale, stride = (float(found[1]), int(found[2])) if found else (0.0, 0)
    if not 0 < scale <= 4 or stride < 1:
        raise ValueError(
            "--settings must be SCALE/STRIDE, a scale of the input up to 4 and a stride of "
            f"decoding in pixels, such as 0.5/1, got {setting!r}"
        )
    return scale, stride


@torch.no_grad()
def count_pictures(
    cfg: DictConfig, model: nn.Module, *, settings: Sequence[str] = SETTINGS, f1_class: str = ""
) -> dict[str, PictureCounts]:
    """Count all pictures in each setting.

    Args:
        cfg: of the run; its first test set is evaluated.
        model: in eval mode.
        settings: of :data:`SETTINGS`, or others of that form.
        f1_class: class whose precision and recall with a tolerance are counted; "" for none.

    Raises:
        ValueError: an unknown class, or a setting of another form.
    """
    name, ignored = build.test_dataset_names(cfg)[0], model.sem_seg_head.ignore_value
    classes = list(MetadataCatalog.get(name).stuff_classes)
    if f1_class and f1_class not in classes:
        raise ValueError(f"--f1-class must be one of {classes}, got {f1_class!r}")
    options = {"trimap_widths": (3,), "f1_classes": [f1_class] if f1_class else []}
    metrics = SegmentationMetrics(classes, ignored, **options)
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {
        setting: {} for setting in settings
    }
    for batch in build.build_test_loader(cfg, name):
        for one in batch:
            label, fields = one["sem_seg"].numpy(), {}
            for setting in settings:
                scale, stride = parse_setting(setting)
                if scale not in fields:
                    fields[scale] = compute_fields(model, [_resized(one, scale)])[0]
                prediction = _labels(fields[scale], label.shape, stride)
                counts = nonzero_counts(metrics.update(label, prediction))
                found[setting][one["file_name"]] = counts
    return {setting: PictureCounts.of(metrics, counts) for setting, counts in found.items()}


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


def counts_file(output: Path, setting: str) -> Path:
    """The file of a run's counts in a setting; tools/compare_runs.py takes its folder."""
    return output / "counts" / setting.replace("/", "_") / PICTURE_COUNTS


def counted_settings(output: Path) -> list[str]:
    """List the settings that a run has counts of, in the order of :data:`SETTINGS`."""
    names = {
        path.parent.name.replace("_", "/") for path in output.glob(f"counts/*/{PICTURE_COUNTS}")
    }
    return [name for name in SETTINGS if name in names] + sorted(names - set(SETTINGS))
