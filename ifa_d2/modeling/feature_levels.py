"""Levels of a field from a backbone's features, in up to three steps.

Shape legend: B batch, C channels, K classes, h x w cells of a feature or level.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import Level
from .alignments import build_dense_alignment
from .grid_decoder import GridDecoder
from .projection import PointwiseProjection, build_projections


class FeatureLevels(nn.Module):
    """Project features to levels, and bring these to one grid if a method needs it.

    Args:
        input_shape: channels and stride of the features.
        in_features: names of those that become levels.
        channels, projections, aspp_dilations, aspp_dropout, aspp_fuse_channels, pool_sizes,
            alignment, alignment_options, norm: see ``IFASemSegHead``.

    Attributes:
        in_features: finest first.
        strides: of those features, in pixels.
        common_stride: of the finest feature.
        projections: a module for each feature, finest first.
        dense_alignment: brings all levels to the finest one's grid; None leaves them.
        grid_decoder: acts on that grid afterwards; None leaves the levels. It is the head's to
            set.
        level_channels: C of each level before ``grid_decoder``.

    Raises:
        ValueError: a feature that is not there, or an option out of range.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        in_features: Sequence[str],
        channels: int | Sequence[int],
        projections: Sequence[str],
        aspp_dilations: Sequence[int] | None,
        aspp_dropout: float,
        aspp_fuse_channels: int | None,
        pool_sizes: Sequence[int],
        alignment: str,
        alignment_options: Mapping[str, Any] | None,
        norm: str,
    ) -> None:
        super().__init__()
        if not in_features:
            raise ValueError(f"in_features must name one or more of {sorted(input_shape)}")
        check_features(input_shape, in_features)
        strides = {name: input_shape[name].stride for name in in_features}
        self.in_features = tuple(sorted(in_features, key=strides.__getitem__))
        self.strides = {name: strides[name] for name in self.in_features}
        self.common_stride = self.strides[self.in_features[0]]
        self.projections = build_projections(
            input_shape,
            in_features,
            projections=projections,
            channels=[channels] if isinstance(channels, int) else channels,
            norm=norm,
            aspp_dilations=aspp_dilations,
            aspp_dropout=aspp_dropout,
            aspp_fuse_channels=aspp_fuse_channels,
            pool_sizes=pool_sizes,
        )
        level_channels = [projection.level_channels for projection in self.projections.values()]
        self.dense_alignment = build_dense_alignment(
            alignment,
            level_channels=level_channels,
            strides=sorted(strides.values()),
            coarsest_channels=input_shape[self.in_features[-1]].channels,
            norm=norm,
            options=alignment_options or {},
        )
        if self.dense_alignment is not None:
            level_channels = [[self.dense_alignment.out_channels]]
        self.level_channels = [c for channels in level_channels for c in channels]
        self.grid_decoder: GridDecoder | None = None

    def levels(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Compute the levels (B, C, h, w), finest first."""
        return self.levels_and_regions(features)[0]

    def levels_at_request(self, features: Mapping[str, Tensor]) -> list[Level]:
        """Return :meth:`levels`, 1x1 projections left to queries at inference."""
        if self.grid_decoder is not None or self.dense_alignment is not None:
            return self.levels(features)
        return self.project(features, at_request=True)

    def levels_and_regions(
        self, features: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], Tensor | None]:
        """The levels, and logits (B, K, h, w) of soft object regions, if there are any."""
        levels = self.align(self.project(features), features)
        return (levels, None) if self.grid_decoder is None else self.grid_decoder(levels)

    def project(self, features: Mapping[str, Tensor], *, at_request: bool = False) -> list[Level]:
        """Project features to levels (B, C, h, w), finest first, channels last in memory.

        Args:
            features: (B, C, h, w) each.
            at_request: at inference, 1x1 projections are left for where a query asks them.
        """
        levels: list[Level] = []
        for name, projection in self.projections.items():
            if at_request and isinstance(projection, PointwiseProjection):
                levels.append(projection.at_request(features[name]))
                continue
            made = projection(features[name].contiguous(memory_format=torch.channels_last))
            levels += [made] if isinstance(made, Tensor) else made
        return levels

    def align(self, levels: Sequence[Tensor], features: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Projected levels as the dense alignment makes them, or as they are without one."""
        if self.dense_alignment is None:
            return levels
        if self.dense_alignment.takes_coarsest:
            levels = [*levels, features[self.in_features[-1]]]
        return self.dense_alignment(levels)


def check_features(input_shape: Mapping[str, ShapeSpec], names: Sequence[str]) -> None:
    """Raise ``ValueError`` for a feature that is not there."""
    for name in names:
        if name not in input_shape:
            raise ValueError(f"features must be of {sorted(input_shape)}, got {name!r}")
