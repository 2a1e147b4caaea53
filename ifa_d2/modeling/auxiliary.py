"""Auxiliary heads: learned of a backbone's features beside the field, in training alone.

Shape legend: B batch, C channels, K classes, G what an auxiliary head tells apart, h x w cells of a
feature, H x W the padded input's size, S size of a grid or of points.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

from .criterion import check_criterion, ignored_label
from .targets import LabelledPoints, Sample, interpolate


@dataclass(frozen=True)
class TrainingStep:
    """Input of losses in an iteration of training.

    Attributes:
        features: of the backbone, (B, C, h, w) each.
        targets: all labels that there are, (B, H, W), or labelled points.
        sample: where the field was asked, with the labels.
        logits: (B, K, *S) that it answered.
        criterion: of the head, of such logits and a sample of any labels.
        ignore_value: label of pixels that do not count.
        aux_loss_weight: factor of the losses of classifiers.
    """

    features: Mapping[str, Tensor]
    targets: Tensor | LabelledPoints
    sample: Sample
    logits: Tensor
    criterion: Callable[[Tensor, Sample], Tensor]
    ignore_value: int
    aux_loss_weight: float

    def at_sample(self, maps: Tensor) -> Tensor:
        """Interpolate maps (B, G, h, w) where the criterion does not upsample them itself."""
        return maps if self.sample.upsampled else interpolate(maps, self.sample.query)


class AuxiliaryTask(nn.Module, ABC):
    """A head of training alone, with losses of its own; nothing asks it at inference."""

    @abstractmethod
    def check(
        self, feature_channels: Mapping[str, int], num_classes: int, criterion: nn.Module
    ) -> None:
        """Check that it fits the head that it is to be in.

        Args:
            feature_channels: of all features that there are.
            num_classes: number of classes K.
            criterion: of the head.

        Raises:
            ValueError: it does not.
        """

    @abstractmethod
    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute its answer, (B, G, h, w)."""

    @abstractmethod
    def losses(self, step: TrainingStep) -> dict[str, Tensor]:
        """Compute its losses by name; those of several heads are summed under one name."""


class AuxiliaryHead(AuxiliaryTask):
    """Classifier of a 3x3 convolution, norm, ReLU, channel dropout, 1x1 convolution.

    It learns the classes, or groups of them: classes that are one to it.

    Args:
        feature: name of the feature.
        in_channels: channels of the feature.
        channels: channels of the 3x3 convolution; None leaves it out, so that the feature is
            classified as it is.
        num_classes: number of classes K, of the labels.
        norm: of the 3x3 convolution, by the names of Detectron2's ``get_norm``.
        dropout: share of channels dropped in training.
        class_groups: the group of each class, K numbers 0, 1, ... of which none is left out; None
            is each class by itself.
        loss_weight: factor of its loss, besides those of the head that it is in.

    Attributes:
        num_groups: G, that it tells apart; K without ``class_groups``.

    Raises:
        ValueError: groups that are not as above, or fewer than two; or a negative weight.
    """

    class_groups: Tensor | None

    def __init__(
        self,
        *,
        feature: str,
        in_channels: int,
        channels: int | None,
        num_classes: int,
        norm: str = "BN",
        dropout: float = 0.1,
        class_groups: Sequence[int] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= loss_weight < math.inf:
            raise ValueError(f"loss_weight must be 0 or above, got {loss_weight}")
        self.feature = feature
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.num_groups = _count_groups(class_groups, num_classes)
        self.loss_weight = loss_weight
        groups = None if class_groups is None else torch.tensor(list(class_groups))
        self.register_buffer("class_groups", groups, persistent=False)
        self.conv = nn.Identity() if channels is None else _convolution(in_channels, channels, norm)
        self.dropout = nn.Dropout2d(dropout)
        width = in_channels if channels is None else channels
        self.predictor = Conv2d(width, self.num_groups, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, C, h, w) to logits (B, G, h, w)."""
        return self.predictor(self.dropout(self.conv(feature)))

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute the logits of its groups, (B, G, h, w)."""
        return self(features[self.feature])

    def losses(self, step: TrainingStep) -> dict[str, Tensor]:
        """Compute ``loss_sem_seg_aux``, the head's criterion of its groups."""
        labels = self.group_labels(step.sample.labels, step.ignore_value)
        logits = step.at_sample(self.logits(step.features))
        loss = step.criterion(logits, replace(step.sample, labels=labels)) * step.aux_loss_weight
        return {"loss_sem_seg_aux": loss * self.loss_weight}

    def check(
        self, feature_channels: Mapping[str, int], num_classes: int, criterion: nn.Module
    ) -> None:
        """Check the feature, the classes and, with groups, the criterion, see the base class."""
        if feature_channels.get(self.feature) != self.in_channels:
            raise ValueError(
                f"feature and in_channels of an auxiliary head must be of {feature_channels}, got "
                f"{self.feature!r} and {self.in_channels}"
            )
        if self.num_classes != num_classes:
            raise ValueError(
                f"num_classes of the auxiliary head of {self.feature} must be {num_classes}, got "
                f"{self.num_classes}"
            )
        if self.class_groups is None:
            return
        ignored = ignored_label(criterion)
        if 0 <= ignored < self.num_groups:
            raise ValueError(
                f"ignore_value must be none of the {self.num_groups} class_groups of the auxiliary "
                f"head of {self.feature}, got {ignored}"
            )
        try:
            check_criterion(criterion, self.num_groups)
        except ValueError as error:
            raise ValueError(
                f"class_groups of the auxiliary head of {self.feature} need a criterion that "
                f"weights no classes: {error}"
            ) from error

    def group_labels(self, labels: Tensor, ignore_value: int) -> Tensor:
        """Map labels, classes and ``ignore_value``, to groups and ``ignore_value``."""
        if self.class_groups is None:
            return labels
        kept = labels != ignore_value
        return self.class_groups[labels.where(kept, 0)].where(kept, labels)


def _convolution(in_channels: int, channels: int, norm: str) -> Conv2d:
    conv = Conv2d(
        in_channels,
        channels,
        kernel_size=3,
        padding=1,
        norm=get_norm(norm, channels),
        activation=F.relu_,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv


def _count_groups(class_groups: Sequence[int] | None, num_classes: int) -> int:
    if class_groups is None:
        return num_classes
    groups = list(class_groups)
    count = len(set(groups))
    if len(groups) != num_classes or count < 2 or set(groups) != set(range(count)):
        raise ValueError(
            f"class_groups must be {num_classes} numbers, the group of each class, of two groups "
            f"or more from 0 on without a gap, got {groups}"
        )
    return count
