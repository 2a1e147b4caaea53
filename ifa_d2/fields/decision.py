"""From scores to labels, probabilities and their entropy.

Shape legend: K classes, S any shape of samples.
"""

import math

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


def class_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute probabilities (K, *S), float32 at least, of logits that a temperature divides."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (wide if temperature == 1 else wide / temperature).softmax(dim=0)


def class_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the entropy (*S) of the probabilities of logits (K, *S), as a share of ln K.

    0 is certainty, 1 that all classes are equally probable; 0 where there is one class alone.
    """
    probabilities = class_probabilities(logits, temperature)
    nats = torch.special.entr(probabilities).sum(dim=0)  # -p ln p, which is 0 at 0
    return (nats / max(math.log(len(logits)), 1e-12)).clamp_(0, 1)
