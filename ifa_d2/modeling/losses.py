"""Losses of a segmentation that torch does not have.

torch's own (``torch.nn.CrossEntropyLoss``) and those of other libraries fit a head as well, see
:func:`.criterion.evaluate_criterion`.

Shape legend: B batch, K classes, S size of a grid (H, W) or of points (P,), N labelled pixels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .criterion import Criterion


class WeightedLoss(Criterion):
    """Mean of a loss of pixels, which count by the weights of their classes.

    Args:
        class_weights: one for each class, 0 or above, not all 0; None or () is 1 for all.
        label_smoothing: share of each label that is spread over all classes, in [0, 1), as torch's.
        ignore_value: label of pixels that never count.

    Raises:
        ValueError: an argument out of its range.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_value: int = 255,
    ) -> None:
        super().__init__(ignore_value=ignore_value)
        weights = [float(weight) for weight in class_weights or ()]
        if weights and not (all(0 <= w < math.inf for w in weights) and any(weights)):
            raise ValueError(f"class_weights must be 0 or above, and not all 0, got {weights}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.register_buffer(
            "class_weights", torch.tensor(weights) if weights else None, persistent=False
        )
        self.label_smoothing = label_smoothing

    def negative_log_likelihood(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute -log p of the labels' classes (B, *S); 0 of ignored pixels."""
        return F.cross_entropy(logits, labels, ignore_index=self.ignore_value, reduction="none")

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted, smoothed cross entropy (B, *S); 0 of ignored pixels."""
        weights = self.class_weights
        return F.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else weights.to(logits.dtype),
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_value,
            reduction="none",
        )

    def mean(self, losses: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
        """Average weighted losses (B, *S) over the pixels ``keep``, by their classes' weights."""
        total = (losses * keep).sum()
        if self.class_weights is None:
            return total / keep.sum().clamp(min=1)
        weights = self.class_weights.to(losses.dtype)[labels.where(keep, 0)] * keep
        return total / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny)


class OhemCrossEntropy(WeightedLoss):
    """Mean cross entropy of the hard pixels of a batch (paper, Sec. 3.2).

    A pixel is hard if the probability of its class is below ``threshold``; where fewer than
    ``min_kept`` are, the ``min_kept`` hardest count. With ``threshold`` 1 it is
    ``torch.nn.functional.cross_entropy``.

    Args:
        threshold: probability in (0, 1]; 1 keeps every pixel.
        min_kept: pixels kept at least, in the batch of one process; it shrinks by the share of the
            batch's pixels that a loss is given.
        class_weights, label_smoothing, ignore_value: of :class:`WeightedLoss`; the former two do
            not change which pixels are hard.

    Raises:
        ValueError: a threshold outside (0, 1] or a negative ``min_kept``.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.7,
        min_kept: int = 100_000,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_value: int = 255,
    ) -> None:
        super().__init__(
            class_weights=class_weights, label_smoothing=label_smoothing, ignore_value=ignore_value
        )
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        if min_kept < 0:
            raise ValueError(f"min_kept must not be negative, got {min_kept}")
        self.threshold = threshold
        self.min_kept = min_kept

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        losses = self.cross_entropy(logits, labels)
        keep = labels != self.ignore_value
        if self.threshold < 1:
            plain = self.class_weights is None and not self.label_smoothing
            hardness = losses if plain else self.negative_log_likelihood(logits, labels)
            keep = keep & self._hard(hardness.detach(), keep, round(self.min_kept * share))
        return self.mean(losses, labels, keep)

    def _hard(self, hardness: Tensor, keep: Tensor, min_kept: int) -> Tensor:
        """Mask of the hard pixels by their -log p, of those to ``keep``."""
        limit = -math.log(self.threshold)
        count = min(min_kept, hardness.numel())
        if count == 0:
            return hardness > limit
        ranked = hardness.masked_fill(~keep, -1).flatten()
        least = ranked.topk(count, sorted=False).values.min()
        return hardness >= least.clamp(max=limit)


class FocalLoss(WeightedLoss):
    """Mean focal loss, with the softmax of all classes.

    ``-(1 - p) ** gamma * log(p)``, p the probability of a pixel's class (Lin et al. 2017, "Focal
    Loss for Dense Object Detection", Eq. 5, whose alpha are the class weights). ``gamma`` 0 is
    cross entropy.

    Args:
        gamma: 0, or 1 and above.
        class_weights, label_smoothing, ignore_value: of :class:`WeightedLoss`.

    Raises:
        ValueError: another ``gamma``, whose gradient is infinite at p = 1.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_value: int = 255,
    ) -> None:
        super().__init__(
            class_weights=class_weights, label_smoothing=label_smoothing, ignore_value=ignore_value
        )
        if not (gamma == 0 or 1 <= gamma < math.inf):
            raise ValueError(f"gamma must be 0, or 1 or above, got {gamma}")
        self.gamma = gamma

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        miss = -torch.expm1(-self.negative_log_likelihood(logits, labels))  # 1 - p
        losses = miss**self.gamma * self.cross_entropy(logits, labels)
        return self.mean(losses, labels, labels != self.ignore_value)


class DiceLoss(Criterion):
    """One minus the soft Dice coefficient, averaged over the classes in the labels.

    ``1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s)`` of each class over the labelled pixels, p its
    probability and g 1 where it is the label (Sudre et al. 2017, "Generalised Dice overlap as a
    deep learning loss function", Eq. 1, without their weights).

    Args:
        smooth: s, in pixels, 0 or above.
        ignore_value: label of pixels that never count.

    Raises:
        ValueError: a negative ``smooth``.
    """

    def __init__(self, *, smooth: float = 1.0, ignore_value: int = 255) -> None:
        super().__init__(ignore_value=ignore_value)
        if not 0 <= smooth < math.inf:
            raise ValueError(f"smooth must be 0 or above, got {smooth}")
        self.smooth = smooth

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        keep = labels != self.ignore_value
        classes = labels.where(keep, 0)
        probabilities = logits.softmax(dim=1) * keep[:, None]
        right = probabilities.gather(1, classes[:, None])[:, 0]
        zeros = logits.new_zeros(logits.shape[1])
        overlap = zeros.scatter_add(0, classes.flatten(), right.flatten())
        labelled = zeros.scatter_add(0, classes.flatten(), keep.to(zeros).flatten())
        given = probabilities.transpose(0, 1).flatten(1).sum(dim=1)
        dice = (2 * overlap + self.smooth) / (given + labelled + self.smooth).clamp(min=1e-7)
        present = labelled > 0
        return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


class LovaszSoftmaxLoss(Criterion):
    """Lovász extension of one minus the IoU, averaged over the labels' classes.

    Berman et al. 2018, "The Lovász-Softmax loss", Eq. 11 and Alg. 1: the errors of a class,
    ``|g - p|``, sorted from the largest, times how much each, added to those before it as a wrong
    pixel, lowers the IoU.
    """

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        keep = labels != self.ignore_value
        probabilities = logits.softmax(dim=1).movedim(1, -1)[keep]  # (N, K)
        labels = labels[keep]
        present = labels.unique().tolist()
        if not present:
            return logits[..., :0].sum()
        losses = [_lovasz_extension(probabilities[:, k], labels == k) for k in present]
        return torch.stack(losses).mean()


def _lovasz_extension(probabilities: Tensor, is_class: Tensor) -> Tensor:
    """Lovász extension of one class' Jaccard loss, of probabilities and labels (N,)."""
    errors, order = (is_class.to(probabilities) - probabilities).abs().sort(descending=True)
    inside = is_class[order]
    count = is_class.sum()
    # What the IoU is if the pixels so far are wrong, and the others right.
    missed = inside.cumsum(0)
    iou = (count - missed).to(errors) / (count + (~inside).cumsum(0))
    return errors @ -torch.diff(iou, prepend=iou.new_ones(1))
