"""A backbone beside whose features are those that the heads at its stages make.

Shape legend: B batch, C channels, h x w cells of a feature.
"""

from collections.abc import Sequence

from detectron2.modeling import Backbone
from torch import Tensor, nn

from ifa_d2.modeling.unit import unit

SUFFIX = "_head"  # of the names of features that a stage's head makes


class HS3FuseBackbone(Backbone):
    """Add the hidden layer of a head at each stage to a backbone's features.

    Hidden layers are convolutions of 3x3, norm and ReLU. An ``AuxiliaryHead`` without convolution
    supervises each in training, and ``FeatureLevels`` projects each to a level more, so that the
    answer is decoded from backbone and heads.

    Args:
        bottom_up: the backbone.
        stages: names of its features that have a head.
        channels: of each hidden layer.
        norm: of the hidden layers, by the names of Detectron2's ``get_norm``.

    Attributes:
        hidden: the hidden layers, by their stages.

    Raises:
        ValueError: a stage that the backbone has not, or none, or the same one twice.
    """

    def __init__(
        self, *, bottom_up: Backbone, stages: Sequence[str], channels: int = 64, norm: str = "BN"
    ) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        stages = list(stages)
        if not stages or len(set(stages)) < len(stages) or not set(stages) <= shapes.keys():
            raise ValueError(f"stages must be different features of {list(shapes)}, got {stages}")
        self.bottom_up = bottom_up
        self.norm = norm
        self.hidden = nn.ModuleDict(
            {
                name: unit(shapes[name].channels, channels, kernel_size=3, norm=norm)
                for name in stages
            }
        )
        made = {f"{name}{SUFFIX}": (channels, shapes[name].stride) for name in stages}
        whole = {name: (shape.channels, shape.stride) for name, shape in shapes.items()} | made
        self._out_features = list(whole)
        self._out_feature_channels = {name: width for name, (width, _) in whole.items()}
        self._out_feature_strides = {name: stride for name, (_, stride) in whole.items()}

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map images (B, 3, H, W) to features (B, C, h, w), those of heads last."""
        features = self.bottom_up(image)
        made = {f"{name}{SUFFIX}": layer(features[name]) for name, layer in self.hidden.items()}
        return {**features, **made}

    @property
    def size_divisibility(self) -> int:
        """The backbone's."""
        return self.bottom_up.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The backbone's."""
        return self.bottom_up.padding_constraints
