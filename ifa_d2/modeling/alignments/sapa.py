"""Levels brought to one grid by similarity-aware point affiliation.

Shape legend: B batch, C channels of a level, G of the finest level, D of queries and keys, h x w
cells of a level, H x W of the finest level, s scale.
"""

from collections.abc import Sequence

import torch
from detectron2.layers import get_norm
from torch import Tensor, nn

from .dense_alignment import DenseAlignment, check_odd
from .reassembly import affiliate, take_nearest

SIMILARITIES = ("inner", "bilinear", "gated")


class Sapa(DenseAlignment):
    """SAPA on each coarser level.

    Lu et al., NeurIPS 2022, https://arxiv.org/abs/2209.12866.

    A point of the finest level is compared with the neighbourhood of the coarser cell that it lies
    in; what it becomes is the mean of that neighbourhood, weighted by similarity. As in the SAPA
    paper's SegFormer, the finest level guides all others and each goes there in one step. IFA's
    paper has no such row.

    Args:
        in_channels, strides, norm: see :class:`DenseAlignment`.
        similarity: ``"inner"`` (SAPA-I), the inner product of the normalised features;
            ``"bilinear"`` (SAPA-B), of low-rank embeddings of them; ``"gated"`` (SAPA-G), where the
            query's embedding is mixed with one of the coarser cell, by a gate that this cell sets.
        embedding_channels: channels D of the embeddings.
        kernel_size: of the neighbourhood, odd.

    Raises:
        ValueError: as :class:`DenseAlignment`, or an unknown similarity, a kernel size that is not
            odd, no embedding channel, or inner products of levels of different widths.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        strides: Sequence[int],
        norm: str,
        similarity: str = "gated",
        embedding_channels: int = 64,
        kernel_size: int = 5,
    ) -> None:
        super().__init__(in_channels=in_channels, strides=strides, norm=norm)
        check_odd("kernel_size", kernel_size)
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}")
        if embedding_channels < 1:
            raise ValueError(f"embedding_channels must be at least 1, got {embedding_channels}")
        if similarity == "inner" and len(set(self.level_channels)) > 1:
            raise ValueError(
                f"in_channels must be equal for similarity 'inner', got {self.level_channels}"
            )
        self.layers = nn.ModuleList(
            _Sapa(
                self.level_channels[0], channels, scale, similarity, embedding_channels, kernel_size
            )
            for channels, scale in zip(self.level_channels[1:], self.scales[1:], strict=True)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, out_channels, H, W)."""
        coarser = zip(self.layers, levels[1:], strict=True)
        return [torch.cat([levels[0], *(layer(levels[0], x) for layer, x in coarser)], dim=1)]


class _Sapa(nn.Module):
    """A guide (B, G, H, W) and a level (B, C, h, w) to (B, C, H, W)."""

    def __init__(
        self,
        guide_channels: int,
        channels: int,
        scale: int,
        similarity: str,
        dims: int,
        kernel_size: int,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.kernel_size = kernel_size
        self.norm_guide = get_norm("LN", guide_channels)
        self.norm_level = get_norm("LN", channels)
        embedded, gated = similarity != "inner", similarity == "gated"
        self.query = _embedding(guide_channels, dims) if embedded else nn.Identity()
        self.key = _embedding(channels, dims) if embedded else nn.Identity()
        self.level_query = _embedding(channels, dims) if gated else None
        self.gate = _embedding(channels, 1) if gated else None

    def forward(self, guide: Tensor, level: Tensor) -> Tensor:
        size = guide.shape[-2:]
        h, w = level.shape[-2:]
        queries = self.query(self.norm_guide(guide))
        queries = take_nearest(queries, (h * self.scale, w * self.scale))
        normed = self.norm_level(level)
        if self.gate is not None:
            gate = _repeat(self.gate(normed).sigmoid(), self.scale)
            own = _repeat(self.level_query(normed), self.scale)
            queries = own + gate * (queries - own)
        aligned = affiliate(
            queries,
            self.key(normed).to(queries.dtype),
            level,
            kernel_size=self.kernel_size,
            scale=self.scale,
        )
        return take_nearest(aligned, size)


def _embedding(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.trunc_normal_(conv.weight, std=0.02)
    nn.init.zeros_(conv.bias)
    return conv


def _repeat(x: Tensor, scale: int) -> Tensor:
    """Each cell as a block of s x s."""
    return x.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
