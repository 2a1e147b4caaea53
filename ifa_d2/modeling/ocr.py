"""Object-contextual representations (Yuan et al., ECCV 2020, https://arxiv.org/abs/1909.11065)."""

import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn


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
            _unit(in_channels, in_channels, norm),
            Conv2d(in_channels, num_classes, kernel_size=1),
        )
        self.pixels = _unit(in_channels, channels, norm, kernel_size=3)
        self.query = nn.Sequential(_unit(channels, keys, norm), _unit(keys, keys, norm))
        self.key = nn.Sequential(_unit(channels, keys, norm), _unit(keys, keys, norm))
        self.value = _unit(channels, keys, norm)
        self.context = _unit(keys, channels, norm)
        nn.init.normal_(self.regions[1].weight, std=0.01)
        nn.init.zeros_(self.regions[1].bias)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """(B, in_channels, h, w) to context and pixels (B, C, h, w) each, and the soft regions'
        logits (B, K, h, w), which are to be supervised.
        """
        regions = self.regions(x)
        pixels = self.pixels(x)
        weights = regions.flatten(2).float().softmax(dim=2).to(pixels.dtype)  # (B, K, h * w)
        objects = weights @ pixels.flatten(2).transpose(1, 2)  # (B, K, C)
        objects = objects.transpose(1, 2)[..., None]  # (B, C, K, 1)
        query = self.query(pixels).flatten(2).transpose(1, 2)  # (B, h * w, D)
        key, value = (part(objects).flatten(2) for part in (self.key, self.value))  # (B, D, K)
        similarity = (query @ key) * key.shape[1] ** -0.5  # (B, h * w, K)
        mixture = similarity.float().softmax(dim=2).to(value.dtype) @ value.transpose(1, 2)
        mixture = mixture.transpose(1, 2).unflatten(2, pixels.shape[2:])  # (B, D, h, w)
        return [self.context(mixture), pixels], regions


def _unit(in_channels: int, out_channels: int, norm: str, *, kernel_size: int = 1) -> Conv2d:
    """A convolution with norm and ReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu_,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
