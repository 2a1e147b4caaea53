"""Relations among classes, instances and places of a picture, by attention.

Shape legend: B batch, C channels, D key channels, K classes, N slots for instances, M = K + N,
P = h * w cells of the feature that relations are of.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from ifa_d2.modeling.unit import unit


class PanopticRelations(nn.Module):
    """Panoptic relational attention: encodings of classes and instances, related to each other and
    to every cell.

    The encoding of a class or an instance is the mean of the cells' features under its map. A
    small network weights encodings, those of instances also by their scores; a weight is a factor
    of what attention gives to an encoding, so that an empty slot, of weight 0, is as none at all.
    Encodings attend to each other, then cells to encodings. What comes out begins as 0.

    Nothing depends on the order of instances or on how many slots are empty. Memory grows with M x
    P for maps and attention, and with M x M.

    Args:
        feature: name of the backbone's feature that encodings are of.
        in_channels: of that feature.
        semantic_channels: of the residual for the semantic head.
        instance_channels: of the residual for the instance head.
        channels: C.
        key_channels: D.
        num_heads: of the attention among encodings.
        norm: of the convolutions, by the names of Detectron2's ``get_norm``.
        max_instances: N at most, the most confident ones.
        center_threshold: least score of an instance.
        nms_kernel: in cells of the finest feature, see :func:`.instance_maps`.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        *,
        feature: str,
        in_channels: int,
        semantic_channels: int,
        instance_channels: int,
        channels: int = 256,
        key_channels: int = 128,
        num_heads: int = 4,
        norm: str = "BN",
        max_instances: int = 50,
        center_threshold: float = 0.1,
        nms_kernel: int = 3,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide channels {channels}, got {num_heads}")
        if max_instances < 1:
            raise ValueError(f"max_instances must be 1 or more, got {max_instances}")
        if not 0 < center_threshold < 1:
            raise ValueError(f"center_threshold must be in (0, 1), got {center_threshold}")
        if nms_kernel < 1 or nms_kernel % 2 == 0:
            raise ValueError(f"nms_kernel must be odd and above 0, got {nms_kernel}")
        self.feature = feature
        self.in_channels = in_channels
        self.num_heads = num_heads
        self.max_instances = max_instances
        self.center_threshold = center_threshold
        self.nms_kernel = nms_kernel
        self.cells = unit(in_channels, channels, kernel_size=1, norm=norm)
        self.weight = nn.Sequential(
            nn.Linear(channels, max(channels // 4, 1)),
            nn.ReLU(),
            nn.Linear(max(channels // 4, 1), 1),
        )
        self.norm_encodings = nn.LayerNorm(channels)
        self.among = nn.Linear(channels, 3 * channels)
        self.among_out = nn.Linear(channels, channels)
        self.norm_related = nn.LayerNorm(channels)
        self.query = unit(channels, key_channels, kernel_size=1, norm=norm)
        self.key_value = nn.Linear(channels, 2 * key_channels)
        self.fuse = unit(key_channels, channels, kernel_size=1, norm=norm)
        self.to_semantic = _zero_conv(channels, semantic_channels)
        self.to_instance = _zero_conv(channels, instance_channels)

    def forward(
        self, feature: Tensor, class_shares: Tensor, masks: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute residuals for both heads, at the feature's size.

        Args:
            feature: (B, in_channels, h, w).
            class_shares: of each cell (B, K, H, W), which sum to 1.
            masks: of instances (B, N, H, W) in [0, 1]; N may be 0.
            scores: of instances (B, N), 0 for an empty slot.

        Returns:
            (B, semantic_channels, h, w) and (B, instance_channels, h, w).
        """
        cells = self.cells(feature)
        maps = torch.cat([class_shares, masks.to(class_shares.dtype)], dim=1)
        maps = F.adaptive_avg_pool2d(_at_least_single(maps), feature.shape[-2:]).flatten(
            2
        )  # (B, M, P)
        areas = maps.sum(dim=2)
        maps = maps / areas.clamp_min(torch.finfo(maps.dtype).tiny)[:, :, None]
        encodings = maps.to(cells.dtype) @ cells.flatten(2).transpose(1, 2)  # (B, M, C)
        bias = self._log_weights(encodings, areas, scores)
        encodings = encodings + self._relate(encodings, bias)
        related = self.norm_related(encodings)
        key, value = self.key_value(related).chunk(2, dim=2)  # (B, M, D)
        query = self.query(cells).flatten(2).transpose(1, 2)  # (B, P, D)
        mixture = _attend(query, key, value, bias).transpose(1, 2)
        context = self.fuse(mixture.unflatten(2, feature.shape[-2:]))
        return self.to_semantic(context), self.to_instance(context)

    def _log_weights(self, encodings: Tensor, areas: Tensor, scores: Tensor) -> Tensor:
        """Logarithms of the encodings' weights (B, 1, M), -inf for empty slots."""
        bias = F.logsigmoid(_at_least_single(self.weight(encodings)[:, :, 0]))
        num_classes = areas.shape[1] - scores.shape[1]
        factors = torch.cat([torch.ones_like(areas[:, :num_classes]), scores.to(areas)], dim=1)
        is_there = factors > 0
        is_there[:, num_classes:] &= areas[:, num_classes:] > 0
        factors = torch.where(is_there, factors, torch.ones_like(factors))  # for the gradient
        return (bias + factors.log()).masked_fill(~is_there, -torch.inf)[:, None]

    def _relate(self, encodings: Tensor, bias: Tensor) -> Tensor:
        """Attention among encodings (B, M, C)."""
        parts = self.among(self.norm_encodings(encodings))
        parts = parts.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixture = _attend(*parts, bias[:, None])  # (B, heads, M, C / heads)
        return self.among_out(mixture.transpose(1, 2).flatten(2))


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Mix (..., M, D) values for (..., Q, D) queries; ``bias`` (..., 1, M) is of the keys."""
    similarity = _at_least_single(query @ key.transpose(-2, -1)) * key.shape[-1] ** -0.5 + bias
    return similarity.softmax(dim=-1).to(value.dtype) @ value


def _at_least_single(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _zero_conv(in_channels: int, out_channels: int) -> Conv2d:
    conv = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
