"""How a query is cut so that what is held at once stays small, whatever is asked.

A tile is what passes through the MLP at once. A band is one tile or several that share the feature
cells which are projected for them: on a grid finer than the features, many queries ask one cell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import Level
from .queries import Axis, GridAxis, GridQuery, GridSubset

# What the widest layer of one tile may take. On a CPU a tile should stay in the last-level cache,
# and below the 32 MiB from which the C library asks the system for fresh pages each time.
_TILE_BYTES_CPU = 8 << 20
_TILE_BYTES = 256 << 20
# Wider tiles would have few rows, and a tile's column terms are worth their cost only over several
# rows.
_MAX_TILE_COLS = 1024
# A level whose projection is at most this large is projected once, for all bands.
_KEPT_BYTES = 8 << 20


@dataclass(frozen=True)
class GridStrip:
    """Some columns of a grid, and at most as many rows as position terms are held of.

    Attributes:
        query: the strip's part of the grid.
        top, left: its first row and column in the grid.
        images: how many images a tile may hold.
        band_rows, tile_rows: rows of its bands, and of the tiles that these consist of.
    """

    query: GridQuery
    top: int
    left: int
    images: int
    band_rows: int
    tile_rows: int

    def bands(self) -> Iterator[slice]:
        """Rows of the bands, counted in the strip."""
        return runs(len(self.query.rows), self.band_rows)

    def tiles(self, band: slice) -> Iterator[tuple[slice, tuple[slice, slice]]]:
        """Rows of a band's tiles, counted in the band, and where they lie in the grid."""
        columns = slice(self.left, self.left + len(self.query.cols))
        top = self.top + band.start
        for rows in runs(band.stop - band.start, self.tile_rows):
            yield rows, (slice(top + rows.start, top + rows.stop), columns)


def tile_queries(widest: int, weight: Tensor) -> int:
    """How many queries a tile may have, of a widest layer of so many channels."""
    tile_bytes = _TILE_BYTES_CPU if weight.device.type == "cpu" else _TILE_BYTES
    return max(1, tile_bytes // (widest * weight.element_size()))


def keeps_whole(level: Level, width: int, num_queries: int) -> bool:
    """Whether a level is better projected once, to ``width`` channels, than band by band."""
    batch, _, h, w = level.shape
    cells = batch * h * w
    return cells <= num_queries and cells * width * level.dtype.itemsize <= _KEPT_BYTES


def plan_grid(
    query: GridQuery, batch: int, budget: int, sizes: Sequence[tuple[int, int]], ensemble: bool
) -> Iterator[GridStrip]:
    """Strips that cover a grid once.

    Args:
        query: the grid.
        batch: images.
        budget: queries of a tile, and about as many feature cells of a band.
        sizes: (h, w) of the levels that are projected band by band.
        ensemble: two cells an axis answer a query.
    """
    height, width = query.size
    cols = min(width, budget, max(_MAX_TILE_COLS, budget // height))
    rows = min(height, max(1, budget // cols))
    if 8 < rows < height:
        rows -= rows % 8  # tiles then end where coarser cells do, at the usual strides
    images = max(1, budget // (rows * cols))
    tall = max(rows, min(height, budget) // rows * rows)
    for left in range(0, width, cols):
        part = query.cols[left : left + cols]
        cells = sum(
            _touched(query.rows, h, ensemble) / height * _touched(part, w, ensemble)
            for h, w in sizes
        )
        band = tall
        if cells:
            fitting = int(4 * budget / (3 * min(images, batch) * cells))
            band = max(rows, min(tall, fitting) // rows * rows)
        for top in range(0, height, tall):
            strip = GridQuery(query.rows[top : top + tall], part)
            yield GridStrip(strip, top, left, images, band, rows)


def plan_points(points: int, batch: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """Images and points of tiles that cover all points of all images once."""
    step = min(points, budget)
    for images in runs(batch, max(1, budget // step)):
        for part in runs(points, step):
            yield images, part


def cut_subset(query: GridSubset) -> GridSubset:
    """The same samples, of the smallest part of the grid that holds them."""
    corner, opposite = query.index.aminmax(dim=0)
    (top, left), (bottom, right) = torch.stack([corner, opposite]).tolist()
    grid = GridQuery(query.grid.rows[top : bottom + 1], query.grid.cols[left : right + 1])
    return GridSubset(grid, query.index - corner)


def runs(length: int, step: int) -> Iterator[slice]:
    """Slices of ``step`` that cover ``range(length)``; the last may be shorter."""
    return (slice(i, min(i + step, length)) for i in range(0, length, step))


def _touched(axis: Axis, m: int, ensemble: bool) -> int:
    """How many of the ``m`` cells of an axis are projected for it."""
    evenly = isinstance(axis, GridAxis)  # the others then lie between the first and the last
    cells = (axis.ends if evenly else axis).taps(m, ensemble).cells
    taps = 2 if ensemble else 1
    return min(int(cells.max() - cells.min()) + 1, taps * len(axis))
