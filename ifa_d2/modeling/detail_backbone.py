"""A level of the picture's own pixels beside any backbone's features."""

import itertools

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from .unit import unit


class DetailBackbone(Backbone):
    """Backbone with one more feature, of stride 1, from convolutions of the picture.

    The finest feature of a common backbone has stride 4, where a pole is half a cell wide. A field
    that is asked at every pixel then has nothing of that pixel to read; this gives it a little,
    whatever the backbone is.

    Optimisers that give backbones a lower rate should give it to ``"backbone.bottom_up."`` alone:
    the convolutions start from nothing.

    Args:
        bottom_up: a backbone of Detectron2.
        out_feature: name of the feature that is added.
        channels: its channels.
        num_convs: how many 3x3 convolutions make it.
        in_channels: channels of the picture.
        norm: of those convolutions, see Detectron2's ``get_norm``.

    Raises:
        ValueError: a name that the backbone has already, or a number below 1.
    """

    def __init__(
        self,
        *,
        bottom_up: Backbone,
        out_feature: str = "detail",
        channels: int = 16,
        num_convs: int = 2,
        in_channels: int = 3,
        norm: str = "BN",
    ) -> None:
        super().__init__()
        if out_feature in bottom_up.output_shape():
            taken = sorted(bottom_up.output_shape())
            raise ValueError(f"out_feature must be a name other than {taken}, got {out_feature!r}")
        for name, value in (("channels", channels), ("num_convs", num_convs)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.bottom_up = bottom_up
        self.out_feature = out_feature
        sizes = [in_channels] + [channels] * num_convs
        self.convs = nn.Sequential(
            *(unit(a, b, kernel_size=3, norm=norm) for a, b in itertools.pairwise(sizes))
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) to the backbone's features and (B, channels, H, W)."""
        detail = self.convs(image.contiguous(memory_format=torch.channels_last))
        return {self.out_feature: detail, **self.bottom_up(image)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature."""
        detail = ShapeSpec(channels=self.convs[-1].out_channels, stride=1)
        return {self.out_feature: detail, **self.bottom_up.output_shape()}

    @property
    def size_divisibility(self) -> int:
        """Size divisibility of the backbone."""
        return self.bottom_up.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Padding constraints of the backbone."""
        return self.bottom_up.padding_constraints
