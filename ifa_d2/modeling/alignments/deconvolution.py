"""Transposed convolutions of levels to one grid (paper, Table 1, "Deconvolution").

Shape legend: B batch, C channels of a level, h x w its cells, H x W cells of the finest level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import Tensor, nn

from .dense_alignment import DenseAlignment


class Deconvolution(DenseAlignment):
    """Transposed convolution, norm and ReLU of each coarser level, concatenated.

    The paper gives no detail but its cost, 1.8 M parameters more than bilinear alignment. Those are
    three 3x3 kernels, one a level, with the level's scale as stride. At scales 4 and 8 such kernels
    leave most of the finest cells empty, which may be why this is the worst row of Table 1; a
    larger ``kernel_size`` closes the gaps at that many more parameters.

    Args:
        in_channels, strides, norm: see :class:`DenseAlignment`.
        kernel_size: of all levels, or one for each level but the finest.

    Raises:
        ValueError: as :class:`DenseAlignment`, or a kernel size below 1, or too many or too few.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        kernel_size: int | Sequence[int] = 3,
    ) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        scales = self.scales[1:]
        if isinstance(kernel_size, int):
            sizes = [kernel_size] * len(scales)
        else:
            sizes = list(kernel_size)
        if len(sizes) != len(scales) or any(size < 1 for size in sizes):
            raise ValueError(
                f"kernel_size must be one positive number, or {len(scales)}, got {kernel_size}"
            )
        self.layers = nn.ModuleList(
            _Deconvolution(channels, scale, size, norm)
            for channels, scale, size in zip(self.level_channels[1:], scales, sizes, strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, out_channels, H, W)."""
        size = levels[0].shape[-2:]
        coarser = zip(self.layers, levels[1:], strict=True)
        return [torch.cat([levels[0], *(layer(level, size) for layer, level in coarser)], dim=1)]


class _Deconvolution(nn.Module):
    """Kernels stand on the middle of the finest cells that their cell covers."""

    def __init__(self, channels: int, scale: int, kernel_size: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, kernel_size, stride=scale, bias=False)
        # its "fan in" is that of the convolution it transposes
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        self.norm = get_norm(norm, channels)
        self.shift = (scale - kernel_size) // 2

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        x = self.conv(x)
        x = F.pad(
            x,
            (
                self.shift,
                size[1] - x.shape[3] - self.shift,
                self.shift,
                size[0] - x.shape[2] - self.shift,
            ),
        )
        return F.relu_(x if self.norm is None else self.norm(x))
