"""From scores to labels.

Shape legend: K classes, S any shape of samples.
"""

import torch
from torch import Tensor


def label_dtype(num_classes: int) -> torch.dtype:
    """Return the smallest integer type that holds every class."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(dtype for dtype in types if num_classes - 1 <= torch.iinfo(dtype).max)


def best_classes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Find the largest scores of (K, *S) and their classes, (*S) each, int64.

    Raises:
        ValueError: a largest score that is not finite.
    """
    best, labels = scores.max(dim=0)  # NaN counts as the largest
    if not torch.isfinite(best).all():
        raise ValueError(
            "logits must be finite to be labelled, got NaN or infinity: the model's weights, or "
            "the features that it makes of this picture, are no numbers"
        )
    return best, labels
