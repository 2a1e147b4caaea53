"""Decoders on a grid: levels are aligned on the finest one's and decoded together.

The decoders of DeepLabV3+, PSPNet and OCR take convolutions, or attention, over the aligned map.
What they make is again levels, for the last layers that answer at any coordinate; between the
cells of that grid these interpolate.

Shape legend: B batch, C channels of a level, h x w cells of the finest level, K classes.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import GridQuery, concatenate_levels
from ..layers.position import build_encodings, count_columns
from .ocr import ObjectContext
from .unit import unit


class AlignedLevels(nn.Module):
    """Levels brought to the finest one's grid and concatenated, positions included.

    Args:
        in_channels: C of each level.
        encoding, num_frequencies, frequency_law, coupled_frequencies, integrated_encoding,
            cell_decoding, unfold, local_ensemble: see :class:`ifa_d2.layers.ImplicitAlignment`,
            whose input this is.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled_frequencies: bool = False,
        integrated_encoding: bool = False,
        cell_decoding: bool = False,
        unfold: bool = False,
        local_ensemble: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.unfold = unfold
        self.local_ensemble = local_ensemble
        self.encodings = build_encodings(
            len(in_channels),
            encoding=encoding,
            num_frequencies=num_frequencies,
            frequency_law=frequency_law,
            coupled_frequencies=coupled_frequencies,
            integrated=integrated_encoding,
            cell=cell_decoding,
        )
        self.out_channels = count_columns(self.encodings, in_channels, unfold=unfold)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, C, ...), finest first, to (B, out_channels, h, w)."""
        size = levels[0].shape[-2:]
        if self.unfold or not self.local_ensemble or self.encodings[0].num_features:
            query = GridQuery.regular(*size)
            return concatenate_levels(
                levels,
                query,
                self.encodings,
                unfold=self.unfold,
                local_ensemble=self.local_ensemble,
            )
        # Without positions the local ensemble is bilinear interpolation, which torch has.
        coarser = [
            F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            for level in levels[1:]
        ]
        return torch.cat([levels[0], *coarser], dim=1)


class GridDecoder(nn.Module):
    """Decoder on the finest level's grid: levels in, fewer levels out.

    Args:
        align: brings levels to that grid.
        out_channels: C of each level that it makes.
    """

    def __init__(self, align: AlignedLevels, out_channels: Sequence[int]) -> None:
        super().__init__()
        self.align = align
        self.out_channels = list(out_channels)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Compute levels (B, C, h, w), and logits (B, K, h, w) of object regions or None."""
        raise NotImplementedError


class ConvDecoder(GridDecoder):
    """Convolutions of 3x3 with norm and ReLU (DeepLabV3+, PSPNet).

    The last one of such a decoder is the first layer of the field after it, with ``unfold``.

    Args:
        align: brings levels to that grid.
        dims: channels of each convolution; () for none.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(self, align: AlignedLevels, *, dims: Sequence[int], norm: str = "BN") -> None:
        channels = [align.out_channels, *dims]
        super().__init__(align, channels[-1:])
        self.convs = nn.Sequential()
        for before, after in itertools.pairwise(channels):
            self.convs.append(unit(before, after, kernel_size=3, norm=norm))

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        return [self.convs(self.align(levels))], None


class ObjectContextDecoder(GridDecoder):
    """Object context, then the pixels, as two levels (HRNet-OCR).

    Args:
        align: brings levels to that grid.
        num_classes: K, of the soft object regions.
        channels: of a pixel, and of its context.
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(
        self, align: AlignedLevels, *, num_classes: int, channels: int = 512, norm: str = "BN"
    ) -> None:
        super().__init__(align, [channels] * 2)
        self.context = ObjectContext(align.out_channels, num_classes, channels=channels, norm=norm)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        return self.context(self.align(levels))
