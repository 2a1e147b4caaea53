"""From a backbone's feature to a level of the field."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ASPP, Conv2d, get_norm
from torch import Tensor, nn

from ..layers import fold_norm, is_foldable


class PointwiseProjection(Conv2d):
    """1x1 convolution with bias, norm and ReLU; at inference one convolution.

    Args:
        in_channels, out_channels: sizes.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=1,
            norm=get_norm(norm, out_channels),
            activation=F.relu_,
        )
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not is_foldable(self.norm):
            return super().forward(x)
        return F.relu_(F.conv2d(x, *fold_norm(self.weight, self.bias, self.norm)))


class ASPPProjection(nn.Module):
    """Atrous spatial pyramid pooling, then a 3x3 convolution (the paper's ``IFA*``).

    Image pooling, a 1x1 and three dilated 3x3 convolutions side by side; a 3x3 convolution with
    norm, ReLU and channel dropout fuses them. The branches are Detectron2's, so that image pooling
    has a bias instead of a norm: over one value a channel and image, batch statistics say little.

    Args:
        in_channels, out_channels: sizes; the branches have ``out_channels`` each.
        dilations: of the three 3x3 convolutions.
        norm: name of a norm, see Detectron2's ``get_norm``.
        dropout: share of channels dropped in training.

    Raises:
        ValueError: other than three dilations, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilations: Sequence[int] = (12, 24, 36),
        norm: str = "BN",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise ValueError(f"dilations must be three numbers, got {tuple(dilations)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.aspp = ASPP(in_channels, out_channels, list(dilations), norm=norm, activation=F.relu_)
        self.aspp.project = nn.Identity()  # Detectron2 fuses by a 1x1 convolution
        self.fuse = Conv2d(
            5 * out_channels,
            out_channels,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, out_channels),
            activation=F.relu_,
        )
        _initialize(self.fuse)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fuse(self.aspp(x)))


def _initialize(conv: Conv2d) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
