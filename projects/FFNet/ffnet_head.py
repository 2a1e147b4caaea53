"""Up-head of FFNet and the first layer of its segmentation head, as parts of a field's levels.

The published head is four adapters of 1x1, a top-down path with a convolution of 3x3 at each
level, all of it upsampled and concatenated, a convolution of 3x3 and a classifier. Here the
adapters are the projections of :class:`ifa_d2.modeling.FeatureLevels`, :class:`UpHead` its dense
alignment, and the classifier a field without hidden layers, of 1x1 or of 3x3 cells.

Shape legend: B batch, C channels of a level, h x w its cells, H x W cells of the finest level.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

from ifa_d2.modeling.alignments import DenseAlignment
from ifa_d2.modeling.unit import unit

# Channels of the adapters, and of the 3x3 convolutions after them, finest first.
UP_HEADS = {
    "A": ((64, 128, 256, 512), (128, 128, 128, 128)),
    "B": ((64, 128, 128, 256), (96, 96, 64, 32)),
    "C": ((128, 128, 128, 128), (128, 16, 16, 16)),
}
# Channels of the hidden layer, and cells a side of the classifier.
SEGMENTATION_HEADS = {"A": (512, 1), "B": (256, 3), "C": (128, 1)}
# What each calls of F.interpolate. "corner_aligned" is the published GPU models', "nearest" the
# mobile ones'; with "bilinear" all levels cover the same extent.
INTERPOLATIONS = {
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "corner_aligned": {"mode": "bilinear", "align_corners": True},
    "nearest": {"mode": "nearest"},
}


class Adapter(Conv2d):
    """Convolution of 1x1 with norm and ReLU, from a feature to a level.

    Args:
        in_channels, out_channels: sizes.
        norm: name of a norm, see Detectron2's ``get_norm``; it makes a bias superfluous.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=not norm,
            norm=get_norm(norm, out_channels),
            activation=F.relu_,
        )
        self.level_channels = (out_channels,)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class UpHead(DenseAlignment):
    """Top-down path over the levels, their concatenation, and a hidden layer of 3x3.

    From the coarsest level on, a 1x1 convolution takes the sum so far to the next level's channels;
    upsampled, it is added to that level. A 3x3 convolution of each sum is upsampled to the finest
    grid.

    Args:
        in_channels, strides, norm: see :class:`ifa_d2.modeling.alignments.DenseAlignment`.
        out_channels: of each level's 3x3 convolution, finest first.
        hidden_channels: of the hidden layer, which has a bias before its norm, as published.
        interpolation: one of :data:`INTERPOLATIONS`.

    Raises:
        ValueError: as ``DenseAlignment``; other than one positive ``out_channels`` a level, no
            hidden channel, or an unknown interpolation.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        out_channels: Sequence[int],
        hidden_channels: int,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        if len(out_channels) != len(strides) or min(out_channels) < 1:
            raise ValueError(
                f"out_channels must be {len(strides)} positive sizes, one for each level, got "
                f"{tuple(out_channels)}"
            )
        if hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1, got {hidden_channels}")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}"
            )
        self.interpolation = interpolation
        widths = self.level_channels
        self.reduce = nn.ModuleList(
            unit(coarse, fine, kernel_size=1, norm=norm)
            for fine, coarse in itertools.pairwise(widths)
        )
        self.smooth = nn.ModuleList(
            unit(width, made, kernel_size=3, norm=norm)
            for width, made in zip(widths, out_channels, strict=True)
        )
        self.hidden = Conv2d(
            sum(out_channels),
            hidden_channels,
            kernel_size=3,
            padding=1,
            norm=get_norm(norm, hidden_channels),
            activation=F.relu_,
        )
        nn.init.kaiming_normal_(self.hidden.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.hidden.bias)
        self.out_channels = hidden_channels

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, hidden_channels, H, W)."""
        sums = [levels[-1]]  # coarsest first
        for level, reduce in zip(levels[-2::-1], reversed(self.reduce), strict=True):
            sums.append(level + self._resize(reduce(sums[-1]), level))
        maps = [smooth(x) for smooth, x in zip(self.smooth, reversed(sums), strict=True)]
        maps = [maps[0], *(self._resize(x, maps[0]) for x in maps[1:])]
        return [self.hidden(torch.cat(maps, dim=1))]

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], **INTERPOLATIONS[self.interpolation])
