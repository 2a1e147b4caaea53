"""Networks of depth, of the camera's motion, and from depth to groups of classes.

Shape legend: B batch, G groups, H x W pixels of the input, a multiple of the largest stride.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from torch import Tensor, nn

_POSE_SCALE = 0.01  # of the pose network's outputs, so that training begins near standing still


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")


class DepthNetwork(nn.Module):
    """Disparities at several scales: an encoder, and a decoder that goes back to full size.

    At each step the decoder's feature is convolved, doubled in size, joined with the encoder's of
    that size, and convolved again; ELU follows each convolution, and a sigmoid the last ones.

    Args:
        backbone: the encoder; each of its features has half the size of the one before, the first
            half of the image's.
        channels: of the decoder, of the image's size first; one more than features.
        num_scales: disparities, of the image's size and of each half of it.
        min_depth, max_depth: depths of disparity 1 and 0.

    Raises:
        ValueError: features of other sizes, or numbers that do not fit.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        num_scales: int = 4,
        min_depth: float = 0.1,
        max_depth: float = 100.0,
    ) -> None:
        super().__init__()
        shapes = list(backbone.output_shape().values())
        strides = [shape.stride for shape in shapes]
        if strides != [2 ** (index + 1) for index in range(len(shapes))]:
            raise ValueError(
                f"backbone must have features of strides 2, 4, 8 and so on, got {strides}"
            )
        if len(channels) != len(shapes):
            raise ValueError(
                f"channels must be {len(shapes)} numbers, as many as the backbone has features, "
                f"got {list(channels)}"
            )
        if not 1 <= num_scales <= len(channels):
            raise ValueError(f"num_scales must be from 1 to {len(channels)}, got {num_scales}")
        if not 0 < min_depth < max_depth:
            raise ValueError(
                f"min_depth must be above 0 and below max_depth, got {min_depth} and {max_depth}"
            )
        self.backbone = backbone
        self.min_depth, self.max_depth = min_depth, max_depth
        self.stride = strides[-1]
        skips = [0, *(shape.channels for shape in shapes)]
        before = [*channels[1:], skips[-1]]
        self.narrow = nn.ModuleList(map(_convolution, before, channels))
        joined = [a + b for a, b in zip(channels, skips, strict=False)]
        self.join = nn.ModuleList(map(_convolution, joined, channels))
        self.predict = nn.ModuleList(_convolution(one, 1) for one in channels[:num_scales])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map normalised images (B, 3, H, W) to disparities in (0, 1), (B, 1, H, W) first."""
        skips = [None, *self.backbone(images).values()]
        x = skips.pop()
        found = []
        for index in reversed(range(len(self.narrow))):
            x = F.interpolate(F.elu(self.narrow[index](x)), scale_factor=2.0, mode="nearest")
            skip = skips.pop()
            x = F.elu(self.join[index](x if skip is None else torch.cat([x, skip], dim=1)))
            if index < len(self.predict):
                found.append(self.predict[index](x).sigmoid())
        return found[::-1]

    def to_depth(self, disparity: Tensor) -> Tensor:
        """Depths of disparities in [0, 1], the inverses of numbers that are linear in them."""
        least, most = 1 / self.max_depth, 1 / self.min_depth
        return 1 / (least + (most - least) * disparity)


class PoseNetwork(nn.Module):
    """How the camera moved between two frames, six numbers.

    Args:
        backbone: the encoder, of images of 6 channels; its last feature is used.
        channels: of the layers behind it.
    """

    def __init__(self, *, backbone: Backbone, channels: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        last = list(backbone.output_shape().values())[-1]
        self.layers = nn.Sequential(
            nn.Conv2d(last.channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 6, 1),
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Find the motion from frames to later ones, both (B, 3, H, W) and normalised.

        Returns:
            Rotation vectors and translations, (B, 3) each, from the coordinates of ``first`` to
            those of ``second``.
        """
        features = self.backbone(torch.cat([first, second], dim=1))
        moved = self.layers(list(features.values())[-1]).mean(dim=(2, 3)) * _POSE_SCALE
        return moved[:, :3], moved[:, 3:]


class DepthToSegmentation(nn.Module):
    """The network h of X-Distill: groups of classes from depth alone.

    It is given the disparity over its mean, so that the scale of depth, which a film does not tell,
    is nothing to it. Its convolutions repeat the border, so that nothing tells it where a pixel is:
    of a constant depth it predicts the same everywhere.

    Args:
        num_groups: G.
        channels: of its hidden layers.
        loss_weight: of the cross entropy with the teacher's labels.
        group_weights: in the cross entropy, one for each group; None weighs all alike.
        ignore_value: label that does not count.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        *,
        num_groups: int,
        channels: int = 32,
        loss_weight: float = 0.02,
        group_weights: Sequence[float] | None = None,
        ignore_value: int = 255,
    ) -> None:
        super().__init__()
        if num_groups < 2:
            raise ValueError(f"num_groups must be at least 2, got {num_groups}")
        if loss_weight < 0:
            raise ValueError(f"loss_weight must be 0 or above, got {loss_weight}")
        if group_weights is not None and len(group_weights) != num_groups:
            raise ValueError(
                f"group_weights must be {num_groups} numbers, one for each group, got "
                f"{list(group_weights)}"
            )
        self.num_groups, self.loss_weight, self.ignore_value = num_groups, loss_weight, ignore_value
        weights = None if group_weights is None else torch.tensor([float(w) for w in group_weights])
        self.register_buffer("group_weights", weights, persistent=False)
        sizes = (1, channels, channels, num_groups)
        layers = [
            nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate")
            for before, after in itertools.pairwise(sizes)
        ]
        self.layers = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, disparity: Tensor) -> Tensor:
        """Map disparities (B, 1, H, W) to logits (B, G, H, W)."""
        return self.layers(disparity / disparity.mean(dim=(2, 3), keepdim=True))

    def loss(self, disparity: Tensor, groups: Tensor) -> Tensor:
        """Weighted cross entropy of a disparity's logits with groups (B, H, W).

        Raises:
            ValueError: a label that is no group.
        """
        if groups.shape != disparity.shape[:1] + disparity.shape[2:]:
            raise ValueError(
                f"teacher must have the frames' (height, width), {tuple(disparity.shape[2:])}, got "
                f"{tuple(groups.shape[1:])}"
            )
        known = groups != self.ignore_value
        wrong = groups[known & ((groups < 0) | (groups >= self.num_groups))]
        if len(wrong):
            raise ValueError(
                f"teacher must have groups below num_groups, {self.num_groups}, or "
                f"{self.ignore_value}, got {wrong.unique().tolist()}"
            )
        logits = self(disparity).float()
        options = {"ignore_index": self.ignore_value, "reduction": "sum"}
        total = F.cross_entropy(logits, groups, self.group_weights, **options)
        # Of all pixels that count, so that none that does costs nothing.
        return self.loss_weight * total / known.sum().clamp(min=1)
