"""Conversion of a model's output to labels.

Shape legend: K classes, H x W pixels of a picture.
"""

import numpy as np
from torch import Tensor

# Pixels decoded at once: few enough to stay in the processor's cache, or in a GPU's memory.
_CPU_BAND = 2**16
_GPU_BAND = 2**22


def label_dtype(num_classes: int) -> np.dtype:
    """Return the smallest unsigned type that holds every class and one for ignored pixels.

    Of a :class:`~ifa_d2.modeling.SegmentationField`, which ignores none, see its ``label_dtype``.
    """
    return np.min_scalar_type(num_classes)


def predicted_labels(sem_seg: Tensor, num_classes: int, source: str) -> np.ndarray:
    """Convert a model's output to (H, W) most likely classes of :func:`label_dtype`.

    Logits are compared band by band: beside them, memory holds the labels and little more. Of
    equal logits the first class wins.

    Args:
        sem_seg: logits (K, H, W), or labels (H, W) of any integer type; on any device.
        num_classes: K.
        source: the picture, for the error.

    Raises:
        ValueError: another number of classes, a label that is no class, a logit that is not a
            number, or a tensor that is neither logits nor labels.
    """
    if sem_seg.dim() == 3:
        if len(sem_seg) != num_classes:
            raise ValueError(
                f"sem_seg of {source!r} has logits of {len(sem_seg)} classes, but the data set has "
                f"{num_classes}"
            )
        return _most_likely(sem_seg.detach(), label_dtype(num_classes), source)
    if sem_seg.dim() != 2 or sem_seg.is_floating_point() or sem_seg.is_complex():
        raise ValueError(
            f"sem_seg of {source!r} must be logits (K, H, W) or whole numbers (H, W), got "
            f"{tuple(sem_seg.shape)} of {sem_seg.dtype}"
        )
    labels = sem_seg.cpu().numpy()
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"sem_seg of {source!r} has labels from {labels.min()} to {labels.max()}, but the data "
            f"set has the {num_classes} classes from 0 on"
        )
    return np.ascontiguousarray(labels, label_dtype(num_classes))


def check_logits(sem_seg: Tensor, num_classes: int, source: str, purpose: str) -> None:
    """Raise a ValueError unless a model's output is logits (K, H, W).

    Args:
        sem_seg, num_classes, source: as of :func:`predicted_labels`.
        purpose: what needs them, in the plural.
    """
    if sem_seg.dim() != 3 or len(sem_seg) != num_classes:
        raise ValueError(
            f"{purpose} need logits of {num_classes} classes, but sem_seg of {source!r} has "
            f"the shape {tuple(sem_seg.shape)}; a FieldSegmentor gives logits with "
            "model.return_logits=True (MODEL.FIELD_SEGMENTOR.RETURN_LOGITS True in yaml)"
        )


def _most_likely(logits: Tensor, dtype: np.dtype, source: str) -> np.ndarray:
    _, height, width = logits.shape
    labels = np.zeros((height, width), dtype)
    on_cpu = logits.device.type == "cpu"
    rows = max(1, (_CPU_BAND if on_cpu else _GPU_BAND) // max(1, width))
    for top in range(0, height, rows):
        band, out = logits[:, top : top + rows], labels[top : top + rows]
        if on_cpu:
            found = _most_likely_in_cache(band, out)
        else:
            best, winners = band.max(dim=0)
            found = not bool(best.isnan().any())
            # torch knows little of unsigned types beyond bytes.
            narrow = winners.byte() if dtype == np.uint8 else winners.int()
            out[...] = narrow.cpu().numpy()
        if not found:
            raise ValueError(f"sem_seg of {source!r} has logits that are not a number")
    return labels


def _most_likely_in_cache(band: Tensor, out: np.ndarray) -> bool:
    """Fill ``out``, which holds 0, with the classes of a band; False if there is a NaN.

    Class by class this takes a tenth of the time of an ``argmax`` over the first axis.
    """
    wide = band if band.element_size() >= 4 and band.is_floating_point() else band.float()
    classes = wide.numpy()
    best = classes[0].copy()
    higher = np.empty(best.shape, bool)
    for index in range(1, len(classes)):
        np.greater(classes[index], best, out=higher)
        np.maximum(classes[index], best, out=best)
        np.copyto(out, index, where=higher)
    return not np.isnan(best.min(initial=np.inf))
