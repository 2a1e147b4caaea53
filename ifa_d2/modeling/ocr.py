"""Object-contextual representations (Yuan et al., ECCV 2020).

https://arxiv.org/abs/1909.11065"""

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn

from .unit import unit


class ObjectContext(nn.Module):
    """Each pixel beside a mixture of what the pixels of each class look like.

    Soft object regions, one a class, are classified from the input; a region's representation is
    the mean of the pixels' under its region (Sec. 3.2, Eq. 2), and a pixel's context the mixture
    of regions' representations that it attends to (Eq. 3).

    Shape legend: B batch, C channels, D key channels, K classes, h x w cells.

    Args:
        in_channels: of the input.
        num_classes: K.
        channels: C of pixels and of their context (the paper's: 512).
        key_channels: D; None is half of ``channels`` (the paper's).
        norm: name of a norm, see Detectron2's ``get_norm``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: int = 512,
        key_channels: int | None = None,
        norm: str = "BN",
    ) -> None:
        super().__init__()
        keys = key_channels or max(channels // 2, 1)
        self.regions = nn.Sequential(
            unit(in_channels, in_channels, kernel_size=1, norm=norm),
            Conv2d(in_channels, num_classes, kernel_size=1),
        )
        self.pixels = unit(in_channels, channels, kernel_size=3, norm=norm)
        self.query = nn.Sequential(
            unit(channels, keys, kernel_size=1, norm=norm),
            unit(keys, keys, kernel_size=1, norm=norm),
        )
        self.key = nn.Sequential(
            unit(channels, keys, kernel_size=1, norm=norm),
            unit(keys, keys, kernel_size=1, norm=norm),
        )
        self.value = unit(channels, keys, kernel_size=1, norm=norm)
        self.context = unit(keys, channels, kernel_size=1, norm=norm)
        nn.init.normal_(self.regions[1].weight, std=0.01)
        nn.init.zeros_(self.regions[1].bias)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Map (B, in_channels, h, w) to context, pixels and logits of regions.

        Context and pixels are (B, C, h, w), logits of the soft regions (B, K, h, w); these are to
        be supervised.
        """
        regions = self.regions(x)
        pixels = self.pixels(x)
        weights = _softmax(regions.flatten(2)).to(pixels.dtype)  # (B, K, h * w)
        objects = weights @ pixels.flatten(2).transpose(1, 2)  # (B, K, C)
        objects = objects.transpose(1, 2)[..., None]  # (B, C, K, 1)
        query = self.query(pixels).flatten(2).transpose(1, 2)  # (B, h * w, D)
        key, value = (part(objects).flatten(2) for part in (self.key, self.value))  # (B, D, K)
        similarity = (query @ key) * key.shape[1] ** -0.5  # (B, h * w, K)
        mixture = _softmax(similarity).to(value.dtype) @ value.transpose(1, 2)
        mixture = mixture.transpose(1, 2).unflatten(2, pixels.shape[2:])  # (B, D, h, w)
        return [self.context(mixture), pixels], regions


def _softmax(x: Tensor) -> Tensor:
    """Over the last axis, in single precision at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).softmax(dim=-1)
