"""Stages of convolution and upsampling to one grid (paper, Table 1).

Shape legend: B batch, C channels of a level, h x w its cells, H x W cells of the finest level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..unit import unit
from .dense_alignment import DenseAlignment, check_odd


class Upsampling(DenseAlignment):
    """Upsampling stages of Semantic FPN (Kirillov et al. 2019, Fig. 3).

    A stage is a convolution with norm and ReLU and bilinear upsampling to twice the size; a level
    passes as many as its scale asks for, the finest none. Levels keep their channels and are
    concatenated, where Semantic FPN sums up: so the paper's cost comes out (summed up, its MLP
    would take 26 G multiply-adds less at 1024 x 1024).

    Args:
        in_channels, strides, norm: see :class:`DenseAlignment`.
        kernel_size: of the convolutions, odd.

    Raises:
        ValueError: as :class:`DenseAlignment`, or a kernel size that is not odd.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        kernel_size: int = 3,
    ) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        check_odd("kernel_size", kernel_size)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                unit(channels, channels, kernel_size=kernel_size, norm=norm)
                for _ in range((scale - 1).bit_length())  # of log2, rounded up
            )
            for channels, scale in zip(self.level_channels, self.scales, strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, out_channels, H, W)."""
        size = levels[0].shape[-2:]
        aligned = []
        for level, stages in zip(levels, self.stages, strict=True):
            for i, conv in enumerate(stages):
                # the size that a backbone has there, which halves with rounding up
                shrink = 2 ** (len(stages) - 1 - i)
                target = [(length + shrink - 1) // shrink for length in size]
                level = F.interpolate(
                    conv(level), size=target, mode="bilinear", align_corners=False
                )
            aligned.append(level)
        return [torch.cat(aligned, dim=1)]
