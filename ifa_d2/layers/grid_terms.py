"""Terms of the first layer's pre-activations on a grid, for any rows of it.

:class:`FirstLayer` makes them once for a grid; tiles of rows then take their part.

Shape legend: B batch, D channels of the first hidden layer, H x W query grid, H' rows of a part of
it, T taps an axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .cells import axis_lookups, cell_lookup, restrict
from .lookup import Terms
from .queries import Taps


@dataclass(frozen=True)
class GridPositions:
    """Where the samples of a grid lie.

    Attributes:
        taps: of rows and of columns, for each level.
        axes: position terms (H, D) of rows and (W, D) of columns; None where there are none, or
            where they are not per axis.
    """

    taps: Sequence[tuple[Taps, Taps]]
    axes: tuple[Tensor, Tensor] | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the grid."""
        ty, tx = self.taps[0]
        return ty.cells.shape[1], tx.cells.shape[1]

    def part(self, rows: slice) -> "GridPositions":
        """A run of the rows."""
        axes = None if self.axes is None else (self.axes[0][rows], self.axes[1])
        return GridPositions([(ty.part(rows), tx) for ty, tx in self.taps], axes)


@dataclass(frozen=True)
class GridTerms:
    """Terms whose sum is the pre-activations of a grid.

    Attributes:
        positions: of the grid's samples.
        bases: projected levels (B, D, H, W) that have the grid's own cells, and whether they may
            be overwritten.
        tables: other projected levels, and the taps of rows and of columns in them.
        joint_term: makes the position term (H', W, D) of taps, where frequencies are coupled; None
            where they are not.
    """

    positions: GridPositions
    bases: list[tuple[Tensor, bool]]
    tables: list[tuple[Tensor, Taps, Taps]]
    joint_term: Callable[[Sequence[tuple[Taps, Taps]]], Tensor] | None

    def part(self, rows: slice | None = None) -> Terms:
        """The terms (B, D, H', W) of a run of rows, or of all.

        Each row may be asked once: a base may be overwritten with the sum.
        """
        positions, bases, tables = self.positions, [base for base, _ in self.bases], self.tables
        if rows is not None:
            positions = positions.part(rows)
            bases = [base[:, :, rows] for base in bases]
            tables = [(*_touched_rows(table, ty.part(rows)), tx) for table, ty, tx in tables]
        if bases and not self.bases[0][1]:
            bases[0] = bases[0].clone()
        lookups = [
            cell_lookup(table, ty.unsqueeze(1, -1), tx.unsqueeze(1, 1))
            for table, ty, tx in tables  # (T, 1, H', 1) and (T, 1, 1, W)
        ]
        like = bases[0] if bases else lookups[0].table
        batch = len(bases[0] if bases else tables[0][0])
        if positions.axes is not None:
            places = (torch.arange(n, device=like.device) for n in positions.size)
            lookups += axis_lookups(positions.axes, torch.cartesian_prod(*places), batch, like)
        elif self.joint_term is not None:
            pairs = [(ty.unsqueeze(-1), tx.unsqueeze(-2)) for ty, tx in positions.taps]
            term = self.joint_term(pairs)
            bases.append(term.permute(2, 0, 1).expand(batch, -1, -1, -1))
        return Terms(lookups, bases, batch, positions.size)


def _touched_rows(table: Tensor, ty: Taps) -> tuple[Tensor, Taps]:
    """The rows of a map (B, D, h, w) that taps touch, and the taps counted in them."""
    part, cells = restrict(table, ty.cells, 2)
    return part, replace(ty, cells=cells)
