"""The levels of a field: feature maps, or maps that are still to be projected.

Shape legend: B batch, C channels of a level, h x w its cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PointwiseLevel:
    """A level that is a pointwise function of a map, taken of the cells that are asked alone.

    Memory is then bounded by what is asked at once, not by the map.

    Attributes:
        source: (B, C', h, w).
        function: of (B, C', h', w') for any h' and w', to (B, C, h', w').
        channels: C.
    """

    source: Tensor
    function: Callable[[Tensor], Tensor]
    channels: int

    @property
    def shape(self) -> torch.Size:
        """(B, C, h, w)."""
        batch, _, h, w = self.source.shape
        return torch.Size((batch, self.channels, h, w))

    @property
    def dtype(self) -> torch.dtype:
        """Of the source."""
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        """Of the source."""
        return self.source.device

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, images: slice) -> "PointwiseLevel":
        return replace(self, source=self.source[images])

    def narrow(self, dim: int, start: int, length: int) -> "PointwiseLevel":
        """A run of rows (``dim`` 2) or columns (3)."""
        return replace(self, source=self.source.narrow(dim, start, length))

    def index_select(self, dim: int, index: Tensor) -> "PointwiseLevel":
        """Some rows (``dim`` 2) or columns (3)."""
        return replace(self, source=self.source.index_select(dim, index))


Level = Tensor | PointwiseLevel


def materialize(level: Level) -> Tensor:
    """The level's values, (B, C, h, w), channels last in memory."""
    if isinstance(level, PointwiseLevel):
        source = level.source.contiguous(memory_format=torch.channels_last)
        return level.function(source)
    return level.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Projected:
    """Part of a level, after its columns of the first layer.

    Attributes:
        values: (B, D, h', w'), channels last in memory.
        top, left: its first row and column in the level.
    """

    values: Tensor
    top: int = 0
    left: int = 0

    def __getitem__(self, images: slice) -> "Projected":
        return replace(self, values=self.values[images])
