"""An auxiliary classifier on one backbone feature, for training alone."""

import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """Classifier of a 3x3 convolution, norm, ReLU, channel dropout, 1x1 convolution.

    Args:
        feature: name of the feature.
        in_channels: channels of the feature.
        channels: channels of the 3x3 convolution.
        num_classes: number of classes.
        norm: name of a norm, see Detectron2's ``get_norm``.
        dropout: share of channels dropped in training.
    """

    def __init__(
        self,
        *,
        feature: str,
        in_channels: int,
        channels: int,
        num_classes: int,
        norm: str = "BN",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.feature = feature
        self.conv = Conv2d(
            in_channels,
            channels,
            kernel_size=3,
            padding=1,
            norm=get_norm(norm, channels),
            activation=F.relu_,
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = Conv2d(channels, num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """Map (B, C, h, w) to logits (B, K, h, w)."""
        return self.predictor(self.dropout(self.conv(feature)))
