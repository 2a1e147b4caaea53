"""Levels brought to one grid at learned offsets (paper, Table 1, "AlignSeg").

Huang et al., AlignSeg: Feature-Aligned Segmentation Networks, TPAMI 2021,
https://arxiv.org/abs/2003.00872.

Shape legend: B batch, C channels of a level, h x w cells of a level or feature, H x W cells of the
finest level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

from ..unit import unit
from .dense_alignment import DenseAlignment

# The context of AlignCM is pooled to this many cells a side.
_CONTEXT_CELLS = 3


class AlignSeg(DenseAlignment):
    """Aligned feature aggregation (AlignFA) of levels, and aligned context (AlignCM).

    From the finest level on, what there is so far and the next coarser level are both moved by
    offsets learned from the two, and added; last of all comes the context of the coarsest backbone
    feature. Residual blocks stand before and after each addition, as in the authors' network. Two
    things differ from it: blocks whose width does not change have no 1x1 convolution before them
    (17 G multiply-adds less at 1024 x 1024), and the MLP that all methods share takes the place of
    the last 3x3 convolution. So the paper's cost comes out.

    Args:
        in_channels, strides, norm: see :class:`DenseAlignment`; levels have one width.

    Raises:
        ValueError: as :class:`DenseAlignment`, or levels of different widths.
    """

    takes_coarsest = True

    def __init__(self, *, in_channels: Sequence[int], strides: Sequence[int], norm: str) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        channels = self.out_channels = self.level_channels[0]
        if len(set(self.level_channels)) > 1:
            raise ValueError(
                f"in_channels must be equal, for levels are added, got {self.level_channels}"
            )
        self.context = ContextAlignment(in_channels[-1], channels, norm=norm)
        self.refine_levels = nn.ModuleList(_Residual(channels, norm) for _ in in_channels)
        self.aggregate = nn.ModuleList(FeatureAlignment(channels, norm=norm) for _ in strides)
        self.refine_sums = nn.ModuleList(_Residual(channels, norm) for _ in strides)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, then a feature, to one level (B, C, H, W)."""
        levels = [*levels[:-1], self.context(levels[-1])]
        levels = [refine(level) for refine, level in zip(self.refine_levels, levels, strict=True)]
        x = levels[0]
        steps = zip(self.aggregate, self.refine_sums, levels[1:], strict=True)
        for aggregate, refine, level in steps:
            x = refine(aggregate(x, level))
        return [x]


class FeatureAlignment(nn.Module):
    """The sum of a fine and a coarse map, both taken at learned offsets (AlignFA).

    Args:
        channels: of both.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(self, channels: int, *, norm: str) -> None:
        super().__init__()
        self.fine_offsets = _offsets(channels, norm)
        self.coarse_offsets = _offsets(channels, norm)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Align (B, C, h, w) to (B, C, H, W), and add them, (B, C, H, W)."""
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        both = torch.cat([fine, coarse], dim=1)
        return take_at_offsets(coarse, self.coarse_offsets(both)) + take_at_offsets(
            fine, self.fine_offsets(both)
        )


class ContextAlignment(nn.Module):
    """A feature and its context, 3 x 3 means of it taken at learned offsets (AlignCM).

    Args:
        in_channels, channels: sizes.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(self, in_channels: int, channels: int, *, norm: str) -> None:
        super().__init__()
        self.adapt, self.adapt_context = (
            nn.Sequential(
                unit(in_channels, in_channels, kernel_size=1, norm=norm),
                unit(in_channels, channels, kernel_size=3, norm=norm),
            )
            for _ in range(2)
        )
        self.offsets = _offsets(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        context = self.adapt_context(pool_mean(x, _CONTEXT_CELLS))
        x = self.adapt(x)
        spread = F.interpolate(context, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return x + take_at_offsets(context, self.offsets(torch.cat([x, spread], dim=1)))


def take_at_offsets(x: Tensor, offsets: Tensor) -> Tensor:
    """A map at the centres of a grid's cells, each moved by an offset.

    Args:
        x: (B, C, h, w).
        offsets: (B, 2, H, W), (y, x) in cells of ``x``.

    Returns:
        (B, C, H, W), interpolated bilinearly; beyond its border a map goes on as it ends.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    size = offsets.shape[-2:]
    places = []
    for axis in range(2):
        centres = (torch.arange(size[axis], device=x.device, dtype=dtype) + 0.5) / size[axis]
        centres = centres[:, None] if axis == 0 else centres
        # from [0, 1] and cells to the [-1, 1] of grid_sample
        places.append(2 * (centres + offsets[:, axis].to(dtype) / x.shape[2 + axis]) - 1)
    grid = torch.stack(places[::-1], dim=-1)  # (B, H, W, 2), x before y
    taken = F.grid_sample(
        x.to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return taken.to(x.dtype)


def pool_mean(x: Tensor, cells: int) -> Tensor:
    """Map (B, C, h, w) to (B, C, cells, cells), as ``adaptive_avg_pool2d``.

    In steps that hold at any size: what ONNX makes of the function itself keeps the parts of the
    size that was recorded.
    """
    for _ in range(2):
        length = x.shape[3]
        begin = torch.arange(cells, device=x.device)[:, None] * length  # in cells * length
        place = torch.arange(length, device=x.device) * cells
        inside = ((place + cells > begin) & (place < begin + length)).to(x.dtype)
        x = F.linear(x, inside / inside.sum(dim=1, keepdim=True)).transpose(2, 3)
    return x


def _offsets(channels: int, norm: str) -> nn.Sequential:
    """Offsets (B, 2, H, W) from two maps (B, 2 * C, H, W); none at first."""
    last = Conv2d(channels, 2, kernel_size=3, padding=1, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(unit(2 * channels, channels, kernel_size=1, norm=norm), last)


class _Residual(nn.Module):
    """Residual block of two 3x3 convolutions with a quarter of the channels between."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        narrow = max(channels // 4, 1)
        self.reduce = unit(channels, narrow, kernel_size=3, norm=norm)
        self.expand = Conv2d(narrow, channels, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.expand.weight, mode="fan_out", nonlinearity="relu")
        self.norm = get_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.expand(self.reduce(x))
        return F.relu_(x if self.norm is None else self.norm(x))
