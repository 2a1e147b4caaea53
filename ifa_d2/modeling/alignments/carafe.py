"""Content-aware reassembly of levels on one grid (paper, Table 1, "CARAFE").

Shape legend: B batch, C channels of a level, h x w its cells, H x W cells of the finest level, s
scale, k kernel size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .dense_alignment import DenseAlignment, check_odd
from .reassembly import reassemble, take_nearest


class Carafe(DenseAlignment):
    """CARAFE on each coarser level.

    Wang et al., ICCV 2019, https://arxiv.org/abs/1905.02188.

    A level goes to the finest grid in one step, at its scale (2, 4, 8), and the results are
    concatenated: the paper's 1.3 M parameters are those of three such modules, while chains of
    modules of scale 2 would have 0.4 M. Where the finest level is not as large as the scale times
    a level, each of its cells takes the upsampled cell that its centre lies in.

    Args:
        in_channels, strides, norm: see :class:`DenseAlignment`.
        compressed_channels: of the map that kernels are predicted from.
        kernel_size: side k of the neighbourhood that a cell is put together from, odd.
        encoder_kernel_size: of the convolution that predicts the kernels, odd.

    Raises:
        ValueError: as :class:`DenseAlignment`, or a kernel size that is not odd, or no compressed
            channel.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        compressed_channels: int = 64,
        kernel_size: int = 5,
        encoder_kernel_size: int = 3,
    ) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        check_odd("kernel_size", kernel_size)
        check_odd("encoder_kernel_size", encoder_kernel_size)
        if compressed_channels < 1:
            raise ValueError(f"compressed_channels must be at least 1, got {compressed_channels}")
        self.layers = nn.ModuleList(
            _Carafe(channels, scale, compressed_channels, kernel_size, encoder_kernel_size)
            for channels, scale in zip(self.level_channels[1:], self.scales[1:], strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, out_channels, H, W)."""
        size = levels[0].shape[-2:]
        coarser = zip(self.layers, levels[1:], strict=True)
        aligned = [take_nearest(layer(level), size) for layer, level in coarser]
        return [torch.cat([levels[0], *aligned], dim=1)]


class _Carafe(nn.Module):
    """Map (B, C, h, w) to (B, C, h * s, w * s)."""

    def __init__(
        self, channels: int, scale: int, compressed: int, kernel_size: int, encoder_kernel_size: int
    ) -> None:
        super().__init__()
        self.scale = scale
        self.kernel_size = kernel_size
        self.compress = nn.Conv2d(channels, compressed, kernel_size=1)
        self.encode = nn.Conv2d(
            compressed,
            kernel_size**2 * scale**2,
            kernel_size=encoder_kernel_size,
            padding=encoder_kernel_size // 2,
        )
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)  # kernels begin as averages
        for conv in (self.compress, self.encode):
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return reassemble(x, self.kernels(x), kernel_size=self.kernel_size, scale=self.scale)

    def kernels(self, x: Tensor) -> Tensor:
        """(B, k * k * s * s, h, w), whose k * k weights of a place sum to 1."""
        kernels = self.encode(self.compress(x)).unflatten(1, (self.kernel_size**2, -1))
        return kernels.softmax(dim=1).flatten(1, 2).to(x.dtype)
