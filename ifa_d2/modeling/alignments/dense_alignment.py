"""Base of the learned methods that bring levels to one grid.

They stand between the projected levels and the function that answers at coordinates: from levels
of several grids to one level on the finest grid.

Shape legend: B batch, C channels of a level, h x w its cells, H x W cells of the finest level.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class DenseAlignment(nn.Module):
    """Base of the methods: what each of them takes, checks and returns.

    Args:
        in_channels: C of each level, finest first, which it keeps; then, for methods that take it
            (see :attr:`takes_coarsest`), of the coarsest feature.
        strides: pixels a cell of each level, finest first; multiples of the first.
        norm: name of the norm of the method's convolutions, see Detectron2's ``get_norm``; "" for
            none. CARAFE has no norm, and SAPA its own.

    Attributes:
        takes_coarsest: whether the coarsest backbone feature, as it was before its projection,
            comes after the levels.
        level_channels: C of each level.
        strides: of the levels.
        scales: how many cells of the finest level a cell of each level is long.
        out_channels: channels of the result.

    Raises:
        ValueError: levels that do not fit this.
    """

    takes_coarsest = False

    def __init__(self, *, in_channels: Sequence[int], strides: Sequence[int], norm: str) -> None:
        super().__init__()
        count = len(strides) + self.takes_coarsest
        if not strides or len(in_channels) != count:
            raise ValueError(
                f"in_channels must be {count} sizes for strides {tuple(strides)}, "
                f"got {tuple(in_channels)}"
            )
        if any(stride % strides[0] or stride < strides[0] for stride in strides):
            raise ValueError(
                f"strides must be multiples of the first, the finest, got {tuple(strides)}"
            )
        if min(in_channels) < 1:
            raise ValueError(f"in_channels must be positive sizes, got {tuple(in_channels)}")
        self.strides = tuple(strides)
        self.scales = tuple(stride // strides[0] for stride in strides)
        self.level_channels = tuple(in_channels[: len(strides)])
        self.out_channels = sum(self.level_channels)

    def check_levels(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Check that levels are those that this was made for.

        Args:
            channels: C of each level, finest first.
            strides: of the features, one for each level.

        Raises:
            ValueError: other levels.
        """
        for name, given, own in (
            ("in_channels", channels, self.level_channels),
            ("strides", strides, self.strides),
        ):
            if tuple(given) != own:
                raise ValueError(
                    f"{name} of the dense alignment must be {tuple(given)}, of the levels, got "
                    f"{own}"
                )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), finest first, to one level (B, out_channels, H, W)."""
        raise NotImplementedError


def check_odd(name: str, value: int) -> None:
    """Raise ``ValueError`` unless a kernel size is odd and positive."""
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be odd and positive, got {value}")
