"""Criteria of heads: their form, sums of them, those of other libraries.

Shape legend: B batch, K classes, S size of a grid (H, W) or of points (P,), N labelled pixels.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
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


class Criterion(nn.Module, ABC):
    """A loss of logits and labels at any places, in single precision under autocast.

    Args:
        ignore_value: label of pixels that never count.
    """

    def __init__(self, *, ignore_value: int = 255) -> None:
        super().__init__()
        self.ignore_value = ignore_value

    def forward(self, logits: Tensor, labels: Tensor, *, share: float = 1.0) -> Tensor:
        """Compute the loss; zero, with a gradient, where all labels are ``ignore_value``.

        Args:
            logits: (B, K, *S).
            labels: (B, *S) int64 classes or ``ignore_value``, see :func:`check_labels`.
            share: of the batch's pixels, that are here.
        """
        with torch.autocast(logits.device.type, enabled=False):
            precise = logits if logits.dtype == torch.float64 else logits.float()
            return self.loss(precise, labels, share)

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        """Compute the loss of logits in single or double precision, see :meth:`forward`."""


def ignored_label(criterion: nn.Module) -> int:
    """The label that a criterion leaves out: its ``ignore_value``, or else ``ignore_index``.

    Raises:
        ValueError: it has neither.
    """
    for name in ("ignore_value", "ignore_index"):
        if isinstance(value := getattr(criterion, name, None), int):
            return value
    raise ValueError(
        f"criterion must have an ignore_value or ignore_index, got a {type(criterion).__name__} "
        "without, which would learn the label to ignore: set its ignore_index, or wrap it, as in "
        "L(LabelledPixels)(criterion=L(...)(...))"
    )


def evaluate_criterion(
    criterion: nn.Module, logits: Tensor, labels: Tensor, *, share: float = 1.0
) -> Tensor:
    """Evaluate a criterion of this package, or any other of logits and labels.

    Another one, of torch or segmentation_models_pytorch, has an ``ignore_index``. It gets points as
    pictures of P x 1, in single precision, and is not asked about labels that are all ignored.

    Args:
        criterion: see :func:`ignored_label`.
        logits, labels, share: see :class:`Criterion`.

    Raises:
        ValueError: the criterion gives more than one number.
    """
    if isinstance(criterion, Criterion):
        return criterion(logits, labels, share=share)
    if bool((labels == ignored_label(criterion)).all()):
        return logits[..., :0].sum()
    if labels.dim() == 2:
        logits, labels = logits[..., None], labels[..., None]
    with torch.autocast(logits.device.type, enabled=False):
        loss = criterion(logits if logits.dtype == torch.float64 else logits.float(), labels)
    if loss.numel() != 1:
        raise ValueError(
            f"criterion {type(criterion).__name__} must give one number, got {tuple(loss.shape)}: "
            'its reduction has to be "mean" or "sum"'
        )
    return loss.reshape(())


class WeightedSum(Criterion):
    """Sum of criteria, each times a weight.

    Args:
        criteria: of this package or another, with the same label to ignore.
        weights: of each; None is 1 for all.

    Raises:
        ValueError: no criteria, another number of weights, a weight that is not positive, or
            different labels to ignore.
    """

    def __init__(
        self, criteria: Sequence[nn.Module], weights: Sequence[float] | None = None
    ) -> None:
        criteria = list(criteria)
        weights = [1.0] * len(criteria) if weights is None else list(weights)
        if not criteria or len(weights) != len(criteria):
            raise ValueError(
                f"weights must be one for each of the criteria, got {weights} for {len(criteria)}"
            )
        if not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights must be above 0, got {weights}")
        ignored = sorted({ignored_label(one) for one in criteria})
        if len(ignored) > 1:
            raise ValueError(f"criteria must have one label to ignore, got {ignored}")
        super().__init__(ignore_value=ignored[0])
        self.criteria = nn.ModuleList(criteria)
        self.weights = weights

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        parts = [
            weight * evaluate_criterion(one, logits, labels, share=share)
            for one, weight in zip(self.criteria, self.weights, strict=True)
        ]
        return torch.stack(parts).sum()


class LabelledPixels(Criterion):
    """Any loss of logits and labels, asked about the labelled pixels alone.

    It is for losses that know no label to ignore, or want labels with a channel, as those of MONAI
    do. To them the labelled pixels of the batch are one picture of N x 1: what they average over
    pictures is averaged over the batch, and what they see of a pixel's neighbours means nothing.

    Args:
        criterion: of logits (1, K, N, 1) and labels (1, N, 1), to one number.
        label_channel: the labels are (1, 1, N, 1), as MONAI's losses with ``to_onehot_y``.
        ignore_value: label of pixels that never count.
    """

    def __init__(
        self, criterion: nn.Module, *, label_channel: bool = False, ignore_value: int = 255
    ) -> None:
        super().__init__(ignore_value=ignore_value)
        self.criterion = criterion
        self.label_channel = label_channel

    def loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        kept = labels != self.ignore_value
        if not kept.any():
            return logits[..., :0].sum()
        logits, labels = logits.movedim(1, -1)[kept].t()[None, ..., None], labels[kept]
        labels = labels[None, :, None]
        return self.criterion(logits, labels[:, None] if self.label_channel else labels).mean()


def check_criterion(criterion: nn.Module, num_classes: int) -> None:
    """Check that a head can learn its classes by a criterion.

    Raises:
        ValueError: it is no module, it knows no label to ignore, or the class weights of a part of
            it, which are called ``class_weights``, or ``weight`` as torch's, are not one for each
            class.
    """
    if not isinstance(criterion, nn.Module):
        raise ValueError(
            f"criterion must be a module, got {type(criterion).__name__} {criterion}: in a config, "
            "L(...) of a loss, or a node with its name for _target_"
        )
    ignored_label(criterion)
    for part in criterion.modules():
        for name in ("class_weights", "weight"):
            weights = getattr(part, name, None)
            if isinstance(weights, Tensor) and weights.numel() != num_classes:
                raise ValueError(
                    f"{name} of {type(part).__name__} must be {num_classes}, one for each class, "
                    f"got {weights.numel()}"
                )
