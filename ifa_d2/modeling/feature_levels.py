"""Levels of a field from a backbone's features, in up to three steps.

Shape legend: B batch, C channels, K classes, h x w cells of a feature or level.
"""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import Level
from .alignments import DenseAlignment
from .grid_decoder import GridDecoder
from .projection import PointwiseProjection


class FeatureLevels(nn.Module):
    """Project features to levels, and bring these to one grid if a method needs it.

    Args:
        input_shape: channels and stride of the features.
        in_features: names of those that become levels, finest first; None is all of
            ``input_shape``, in the order of their strides.
        channels: of each feature's level, one number or one for each of ``in_features``. Features
            with a projection of their own do not read theirs.
        norm: of the 1x1 convolutions that project features, by the names of Detectron2's
            ``get_norm``; "" for none.
        projections: modules that project single features in place of those convolutions, by the
            feature's name, see :mod:`~ifa_d2.modeling.projection`.
        dense_alignment: brings all levels to the finest one's grid; None leaves them.
        grid_decoder: acts on that grid afterwards; None leaves the levels.

    Attributes:
        in_features: finest first.
        feature_channels: of all features of ``input_shape``.
        strides: of those features, in pixels.
        common_stride: of the finest feature.
        projections: a module for each feature, finest first.
        level_channels: C of each level that is given to the field.

    Raises:
        ValueError: a feature that is not there, or parts that do not fit each other.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        in_features: Sequence[str] | None = None,
        channels: int | Sequence[int] = 256,
        norm: str = "BN",
        projections: Mapping[str, nn.Module] | None = None,
        dense_alignment: DenseAlignment | None = None,
        grid_decoder: GridDecoder | None = None,
    ) -> None:
        super().__init__()
        if in_features is None:
            in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.in_features = tuple(in_features)
        if not self.in_features:
            raise ValueError(f"in_features must name one or more of {sorted(input_shape)}")
        for name in (*self.in_features, *(projections or ())):
            if name not in input_shape:
                raise ValueError(f"features must be of {sorted(input_shape)}, got {name!r}")
        self.feature_channels = {name: shape.channels for name, shape in input_shape.items()}
        self.strides = {name: input_shape[name].stride for name in self.in_features}
        if list(self.strides.values()) != sorted(self.strides.values()):
            raise ValueError(f"in_features must be finest first, got strides {self.strides}")
        self.common_stride = self.strides[self.in_features[0]]
        widths = [channels] * len(self.in_features) if isinstance(channels, int) else [*channels]
        if len(widths) != len(self.in_features):
            raise ValueError(
                "channels must be one number, or one for each of in_features "
                f"{self.in_features}, got {widths}"
            )
        # LazyConfig leaves what a plain dict holds.
        own = {name: instantiate(part) for name, part in (projections or {}).items()}
        if unused := sorted(own.keys() - set(self.in_features)):
            raise ValueError(f"projections must be of in_features {self.in_features}, got {unused}")
        self.projections = nn.ModuleDict(
            {
                name: own[name]
                if name in own
                else PointwiseProjection(input_shape[name].channels, width, norm=norm)
                for name, width in zip(self.in_features, widths, strict=True)
            }
        )
        self.dense_alignment = dense_alignment
        self.grid_decoder = grid_decoder
        self.level_channels = self._channels(input_shape)

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Compute the levels (B, C, h, w), finest first."""
        return self.with_regions(features)[0]

    def at_request(self, features: Mapping[str, Tensor]) -> list[Level]:
        """Return the levels, 1x1 projections left to queries at inference."""
        if self.grid_decoder is not None or self.dense_alignment is not None:
            return self(features)
        return self.project(features, at_request=True)

    def with_regions(self, features: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Return the levels, and logits (B, K, h, w) of soft object regions, if there are any."""
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
        """Bring projected levels to one grid by the dense alignment, if there is one."""
        if self.dense_alignment is None:
            return levels
        if self.dense_alignment.takes_coarsest:
            levels = [*levels, features[self.in_features[-1]]]
        return self.dense_alignment(levels)

    def _channels(self, input_shape: Mapping[str, ShapeSpec]) -> tuple[int, ...]:
        """Channels after all steps, each of which must take those of the one before."""
        for name, projection in self.projections.items():
            taken = getattr(projection, "in_channels", input_shape[name].channels)
            if taken != input_shape[name].channels:
                raise ValueError(
                    f"in_channels of the projection of {name} must be "
                    f"{input_shape[name].channels}, as input_shape says, got {taken}"
                )
        made = [c for p in self.projections.values() for c in p.level_channels]
        if self.dense_alignment is not None:
            self.dense_alignment.check_levels(made, tuple(self.strides.values()))
            made = [self.dense_alignment.out_channels]
        if self.grid_decoder is not None:
            if list(self.grid_decoder.align.in_channels) != made:
                raise ValueError(
                    f"in_channels of the grid decoder must be {made}, of the levels, got "
                    f"{list(self.grid_decoder.align.in_channels)}"
                )
            made = self.grid_decoder.out_channels
        return tuple(made)
