"""An auxiliary classifier on one backbone feature, for training alone."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
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
