"""Decoders on a grid: levels are aligned on the finest one's and decoded together.

The decoders of DeepLabV3+, PSPNet and OCR take convolutions, or attention, over the aligned map.
What they make is again levels, for the last layers that answer at any coordinate; between the
cells of that grid these interpolate.

Shape legend: B batch, C channels of a level, h x w cells of the finest level, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import GridQuery, concatenate_levels
from ..layers.position import build_encodings, count_columns
from .ocr import ObjectContext
from .unit import unit

DECODERS = ("pointwise", "conv", "ocr")


class AlignedLevels(nn.Module):
    """Levels brought to the finest one's grid and concatenated, positions included.

    Args:
        in_channels: C of each level.
        encoding, num_frequencies, frequency_law, coupled_frequencies, unfold, local_ensemble,
            integrated_encoding, cell_decoding: see :class:`ifa_d2.layers.ImplicitAlignment`,
            whose input this is.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        encoding: str,
        num_frequencies: int,
        frequency_law: str,
        coupled_frequencies: bool,
        unfold: bool,
        local_ensemble: bool,
        integrated_encoding: bool = False,
        cell_decoding: bool = False,
    ) -> None:
        super().__init__()
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
    """Decoder on the finest level's grid, with logits of soft object regions or None.

    Args:
        kind: ``"conv"``, 3x3 convolutions with norm and ReLU; ``"ocr"``, object context.
        in_channels: C of each level.
        num_classes: K, of the soft object regions.
        dims: channels of each convolution; or one number, the channels of a pixel in object
            context.
        norm: name of a norm, see Detectron2's ``get_norm``.
        options: of :class:`AlignedLevels`.

    Attributes:
        out_channels: C of each level that it makes.
    """

    def __init__(
        self,
        kind: str,
        *,
        in_channels: Sequence[int],
        num_classes: int,
        dims: Sequence[int],
        norm: str,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.align = AlignedLevels(in_channels, **options)
        channels = self.align.out_channels
        self.convs = nn.Sequential()
        self.context: ObjectContext | None = None
        if kind == "ocr":
            self.context = ObjectContext(channels, num_classes, channels=dims[0], norm=norm)
            self.out_channels = [dims[0]] * 2  # its context and the pixels
        else:
            for dim in dims:
                self.convs.append(unit(channels, dim, kernel_size=3, norm=norm))
                channels = dim
            self.out_channels = [channels]

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Compute levels (B, C, h, w), and logits (B, K, h, w) of object regions or None."""
        x = self.align(levels)
        if self.context is not None:
            return self.context(x)
        return [self.convs(x)], None


def build_grid_decoder(
    decoder: str,
    *,
    in_channels: Sequence[int],
    hidden_dims: Sequence[int],
    num_classes: int,
    norm: str,
    options: Mapping[str, Any],
) -> tuple[GridDecoder | None, dict[str, Any]]:
    """Build a decoder on the grid, and arguments of the alignment after it.

    The last 3x3 convolution is that alignment's first layer, which sees neighbourhoods.

    Args:
        decoder: one of :data:`DECODERS`.
        in_channels: C of each level.
        hidden_dims: channels of the layers, see ``IFASemSegHead``.
        num_classes: K.
        norm: name of a norm, see Detectron2's ``get_norm``.
        options: of ``ImplicitAlignment``, how levels are brought together.

    Raises:
        ValueError: an unknown decoder, or no layer.
    """
    hidden_dims = tuple(hidden_dims)
    if decoder not in DECODERS:
        raise ValueError(f"decoder must be one of {DECODERS}, got {decoder!r}")
    if any(size < 1 for size in hidden_dims):
        raise ValueError(f"hidden_dims must be positive sizes, got {hidden_dims}")
    if decoder == "pointwise":
        return None, {"in_channels": in_channels, "hidden_dims": hidden_dims, **options}
    if not hidden_dims:
        raise ValueError(f"hidden_dims must be one or more sizes for decoder {decoder!r}, got ()")
    conv = decoder == "conv"
    options = dict(options)
    if options.pop("ensemble_outputs", False):
        raise ValueError(f"ensemble_outputs must be False for decoder {decoder!r}, got True")
    grid_decoder = GridDecoder(
        decoder,
        in_channels=in_channels,
        num_classes=num_classes,
        dims=hidden_dims[:-1] if conv else hidden_dims[:1],
        norm=norm,
        options=options,
    )
    return grid_decoder, {
        "in_channels": grid_decoder.out_channels,
        "hidden_dims": hidden_dims[-1:] if conv else hidden_dims,
        "encoding": "none",
        "unfold": conv,
        "local_ensemble": True,
    }
