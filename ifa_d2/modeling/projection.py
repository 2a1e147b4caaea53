"""Projections of a backbone's features to the levels of a field.

Each projection of one feature gives one level or, as pyramid pooling does, several, finest first;
``level_channels`` says how many channels they have, and ``in_channels`` how many the feature has.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import ASPP, Conv2d, get_norm
from torch import Tensor, nn

from ..layers import Level, PointwiseLevel, fold_norm, is_foldable
from .unit import unit


class PointwiseProjection(Conv2d):
    """Convolution of 1x1 with bias, norm and ReLU.

    At inference the norm is folded into the convolution.

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
        self.level_channels = (out_channels,)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        if torch.is_grad_enabled() or not is_foldable(self.norm):
            return super().forward(x)
        return F.relu_(F.conv2d(x, *fold_norm(self.weight, self.bias, self.norm)))

    def at_request(self, x: Tensor) -> Level:
        """Return a level projected where it is needed, at inference; else ``forward``."""
        if torch.is_grad_enabled() or not is_foldable(self.norm):
            return self(x)
        return PointwiseLevel(x, *fold_norm(self.weight, self.bias, self.norm))


class ASPPProjection(nn.Module):
    """Atrous spatial pyramid pooling, then a 3x3 convolution (the paper's ``IFA*``).

    Image pooling, a 1x1 and three dilated 3x3 convolutions side by side; a 3x3 convolution with
    norm, ReLU and channel dropout fuses them. The branches are Detectron2's, so that image pooling
    has a bias instead of a norm: over one value a channel and image, batch statistics say little.
    With ``fuse_channels`` a 1x1 convolution to that many channels fuses them instead, and the
    projection of the other features comes after it.

    Args:
        in_channels, out_channels: sizes; the branches have ``out_channels`` each.
        dilations: of the three 3x3 convolutions.
        norm: name of a norm, see Detectron2's ``get_norm``.
        dropout: share of channels dropped in training.
        fuse_channels: channels that a 1x1 convolution fuses the branches to, before the projection
            that other features have; None or 0 is the 3x3 convolution.

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
        fuse_channels: int | None = None,
    ) -> None:
        super().__init__()
        _check_aspp(dilations, dropout)
        self.in_channels = in_channels
        self.level_channels = (out_channels,)
        self.aspp = ASPP(in_channels, out_channels, list(dilations), norm=norm, activation=F.relu_)
        self.aspp.project = nn.Identity()  # Detectron2 fuses by a 1x1 convolution
        fused = fuse_channels or out_channels
        self.fuse = unit(5 * out_channels, fused, kernel_size=1 if fuse_channels else 3, norm=norm)
        self.project = (
            PointwiseProjection(fused, out_channels, norm=norm) if fuse_channels else nn.Identity()
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        return self.dropout(self.project(self.fuse(self.aspp(x))))


class IdentityProjection(nn.Identity):
    """Identity: the feature is the level.

    Args:
        in_channels: of the feature.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.level_channels = (in_channels,)


class DeepLabASPP(ASPP):
    """Detectron2's ASPP, fused by a 1x1 convolution (DeepLabV3+).

    https://arxiv.org/abs/1802.02611

    Args:
        in_channels, out_channels, dilations, norm: see :class:`ASPPProjection`.
        dropout: share of values dropped in training.

    Raises:
        ValueError: as :class:`ASPPProjection`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilations: Sequence[int] = (6, 12, 18),
        norm: str = "BN",
        dropout: float = 0.1,
    ) -> None:
        _check_aspp(dilations, dropout)
        super().__init__(
            in_channels,
            out_channels,
            list(dilations),
            norm=norm,
            activation=F.relu_,
            dropout=dropout,
        )
        self.in_channels = in_channels
        self.level_channels = (out_channels,)


class PyramidPooling(nn.Module):
    """Feature and its averages over regular parts of the image (PSPNet, Sec. 3.2).

    https://arxiv.org/abs/1612.01105

    The averages are levels like any other: maps of the same extent, of few cells. Those over the
    whole image have a bias instead of a norm, as image pooling in Detectron2's ASPP.

    Args:
        in_channels: of the feature.
        out_channels: of each pooled level.
        pool_sizes: cells a side of each pooled level.
        norm: name of a norm, see Detectron2's ``get_norm``.

    Raises:
        ValueError: no pool size, or one below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        pool_sizes: Sequence[int] = (1, 2, 3, 6),
        norm: str = "BN",
    ) -> None:
        super().__init__()
        if not pool_sizes or min(pool_sizes) < 1:
            raise ValueError(
                f"pool_sizes must be one or more of at least 1, got {tuple(pool_sizes)}"
            )
        self.in_channels = in_channels
        self.pool_sizes = tuple(sorted(pool_sizes, reverse=True))  # finest first
        self.convs = nn.ModuleList(
            unit(in_channels, out_channels, kernel_size=1, norm=norm if size > 1 else "")
            for size in self.pool_sizes
        )
        self.level_channels = (in_channels, *[out_channels] * len(self.pool_sizes))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, C, h, w) to itself and (B, out_channels, s, s) of each pool size s."""
        pooled = [
            conv(F.adaptive_avg_pool2d(x, size))
            for size, conv in zip(self.pool_sizes, self.convs, strict=True)
        ]
        return [x, *pooled]


def _check_aspp(dilations: Sequence[int], dropout: float) -> None:
    if len(dilations) != 3:
        raise ValueError(f"dilations must be three numbers, got {tuple(dilations)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
