"""An auxiliary head that predicts boundaries between classes.

Shape legend: B batch, C channels, h x w cells of the finest feature, H x W the padded input's size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from inverse_form import InverseFormLoss
from torch import Tensor, nn

from ifa_d2.data.points import near_boundary
from ifa_d2.modeling import AuxiliaryTask, LabelledPoints, TrainingStep
from ifa_d2.modeling.unit import unit


class BoundaryHead(AuxiliaryTask):
    """Boundary map of all features: 1x1 convolution, norm, ReLU, 1x1 convolution to one channel.

    Features are brought to the finest one's grid and concatenated. The logits are upsampled to the
    labels, in which a pixel is of a boundary that has one of another class nearby.

    Args:
        features: names of the features, finest first.
        in_channels: of each of them.
        channels: of the first convolution.
        norm: of the first convolution, by the names of Detectron2's ``get_norm``.
        boundary_width: pixels on either side of a boundary that belong to it.
        boundary_weight: factor of ``loss_boundary``, see :func:`balanced_boundary_loss`.
        attention_weight: factor of ``loss_boundary_attention``, the head's criterion of the pixels
            that are predicted to be of a boundary; 0 leaves it out.
        attention_threshold: probability of a boundary above which a pixel is one of these.
        inverse_form: the loss ``loss_inverse_form``; None leaves it out.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        in_channels: Sequence[int],
        channels: int = 64,
        norm: str = "BN",
        boundary_width: int = 2,
        boundary_weight: float = 0.3,
        attention_weight: float = 0.1,
        attention_threshold: float = 0.8,
        inverse_form: InverseFormLoss | None = None,
    ) -> None:
        super().__init__()
        if not features or len(in_channels) != len(features):
            raise ValueError(
                f"in_channels of the boundary head must be one for each of features "
                f"{list(features)}, got {list(in_channels)}"
            )
        if boundary_width < 1:
            raise ValueError(f"boundary_width must be at least 1, got {boundary_width}")
        if not 0 < boundary_weight < math.inf:
            raise ValueError(f"boundary_weight must be above 0, got {boundary_weight}")
        if not 0 <= attention_weight < math.inf:
            raise ValueError(f"attention_weight must be 0 or above, got {attention_weight}")
        if not 0 <= attention_threshold < 1:
            raise ValueError(f"attention_threshold must be in [0, 1), got {attention_threshold}")
        self.features = tuple(features)
        self.in_channels = tuple(in_channels)
        self.boundary_width = boundary_width
        self.boundary_weight = boundary_weight
        self.attention_weight = attention_weight
        self.attention_threshold = attention_threshold
        self.inverse_form = inverse_form
        self.hidden = unit(sum(in_channels), channels, kernel_size=1, norm=norm)
        self.predictor = Conv2d(channels, 1, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def check(
        self, feature_channels: Mapping[str, int], num_classes: int, criterion: nn.Module
    ) -> None:
        """Check the features, see the base class."""
        for name, channels in zip(self.features, self.in_channels, strict=True):
            if feature_channels.get(name) != channels:
                raise ValueError(
                    f"features and in_channels of the boundary head must be of {feature_channels}, "
                    f"got {name!r} and {channels}"
                )

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits of a boundary (B, 1, h, w)."""
        size = features[self.features[0]].shape[-2:]
        maps = [
            F.interpolate(features[name], size=size, mode="bilinear", align_corners=False)
            for name in self.features
        ]
        return self.predictor(self.hidden(torch.cat(maps, dim=1)))

    def losses(self, step: TrainingStep) -> dict[str, Tensor]:
        """Compute the losses that are not left out, in single precision.

        Raises:
            ValueError: targets are points without a label map.
        """
        if isinstance(step.targets, LabelledPoints):
            raise ValueError(
                "targets must be dense labels for a boundary head, got points: set "
                "dataloader.train.mapper.num_points=0, and points in "
                "model.sem_seg_head.targets.sampler if they are to be drawn from the labels"
            )
        logits = self.logits(step.features)
        losses = {}
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float))
            size = step.targets.shape[1:]
            whole = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0]
            labelled = step.targets != step.ignore_value
            target = near_boundary(step.targets, self.boundary_width, step.ignore_value)
            loss = balanced_boundary_loss(whole, target, labelled)
            losses["loss_boundary"] = loss * self.boundary_weight
            if self.attention_weight:
                losses["loss_boundary_attention"] = self._attention_loss(logits.detach(), step)
            if self.inverse_form is not None:
                # Probabilities, which have a gradient; a softmax over one channel has none.
                prediction = whole.sigmoid() * labelled
                losses["loss_inverse_form"] = self.inverse_form(prediction, target)
        return losses

    def _attention_loss(self, logits: Tensor, step: TrainingStep) -> Tensor:
        """The criterion of pixels, or points, that the head takes for those of a boundary."""
        sample = step.sample
        maps = step.at_sample(logits.sigmoid())
        if sample.upsampled:
            size = sample.labels.shape[1:]
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        kept = maps[:, 0] > self.attention_threshold
        labels = sample.labels.where(kept, step.ignore_value)
        return step.criterion(step.logits, replace(sample, labels=labels)) * self.attention_weight


def balanced_boundary_loss(logits: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
    """Mean binary cross entropy, pixels on boundaries by the share of the others and vice versa.

    It is 0, with a gradient of 0, where no pixel, or every one, is on a boundary.

    Args:
        logits: (B, H, W).
        target: (B, H, W) bool, pixels on boundaries.
        labelled: (B, H, W) bool, pixels that count.
    """
    losses = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
    number = labelled.sum().clamp(min=1)
    share = (target & labelled).sum() / number
    weights = torch.where(target, 1 - share, share) * labelled
    return (losses * weights).sum() / number
