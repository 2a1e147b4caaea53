"""Cross entropy with online hard example mining (paper, Sec. 3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def check_labels(labels: Tensor, num_classes: int, ignore_value: int) -> None:
    """Raise a ValueError if a label is neither a class nor ``ignore_value``."""
    bad = (labels != ignore_value) & ((labels < 0) | (labels >= num_classes))
    if bad.any():
        values = labels[bad].unique()[:8].tolist()
        raise ValueError(
            f"labels must be one of {num_classes} classes (0..{num_classes - 1}) or the "
            f"ignore_value {ignore_value}, got {values}"
        )


class OhemCrossEntropy(nn.Module):
    """Mean cross entropy of the hard pixels of a batch.

    A pixel is hard if the probability of its class is below ``threshold``; where fewer than
    ``min_kept`` are, the ``min_kept`` hardest count.

    Args:
        threshold: probability in (0, 1]; 1 keeps every pixel.
        min_kept: pixels kept at least, in the batch of one process.
        ignore_value: label of pixels that never count.

    Raises:
        ValueError: a threshold outside (0, 1] or a negative ``min_kept``.
    """

    def __init__(
        self, *, threshold: float = 0.7, min_kept: int = 100_000, ignore_value: int = 255
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        if min_kept < 0:
            raise ValueError(f"min_kept must not be negative, got {min_kept}")
        self.threshold = threshold
        self.min_kept = min_kept
        self.ignore_value = ignore_value

    def forward(
        self, logits: Tensor, labels: Tensor, *, share: float = 1.0, checked: bool = False
    ) -> Tensor:
        """Zero where nothing is kept, as in a batch whose labels are all ``ignore_value``.

        Args:
            logits: (B, K, *S).
            labels: (B, *S) int64 classes or ``ignore_value``.
            share: of the batch's pixels, that are here; ``min_kept`` shrinks by it.
            checked: :func:`check_labels` has seen the labels. It waits for their device, so that
                several losses of one batch should ask it once.

        Raises:
            ValueError: a label that is neither a class nor ``ignore_value``, unless ``checked``.
        """
        if not checked:
            check_labels(labels, logits.shape[1], self.ignore_value)
        with torch.autocast(logits.device.type, enabled=False):
            losses = F.cross_entropy(
                logits.float() if logits.dtype != torch.float64 else logits,
                labels,
                ignore_index=self.ignore_value,
                reduction="none",
            )
        keep = labels != self.ignore_value
        if self.threshold < 1:
            hard = -math.log(self.threshold)
            ranked = losses.detach().masked_fill(~keep, -1).flatten()
            count = min(round(self.min_kept * share), ranked.numel())
            if count > 0:
                least = ranked.topk(count, sorted=False).values.min()
                keep = keep & (losses.detach() >= least.clamp(max=hard))
            else:
                keep = keep & (losses.detach() > hard)
        return (losses * keep).sum() / keep.sum().clamp(min=1)
