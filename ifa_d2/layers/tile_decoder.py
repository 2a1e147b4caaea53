"""Logits of a query tile by tile, so that what is held at once stays small.

:mod:`ifa_d2.layers.tiling` plans the tiles; here each is looked up and decoded.

Shape legend: B batch, C channels of a level, h x w cells of a level, H x W rows and columns of a
tile, P points of a tile, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .first_layer import FirstLayer
from .levels import Level, Projected
from .lookup import Terms
from .queries import GridQuery, GridSubset, PointQuery, Query
from .tiling import cut_subset, plan_grid, plan_points, runs

# Where a tile belongs (images, then rows and columns, or points), and its logits.
Tile = tuple[tuple[slice, ...], Tensor]


@dataclass(frozen=True)
class TileDecoder:
    """A field at inference, decoded tile by tile.

    Attributes:
        first: the first layer, its norm folded in.
        finish: from the first layer's terms to logits (B, K, H, W).
        levels: (B, C, h, w) each.
        kept: for each level, its projection by ``first`` at least at the cells that answer; None
            for one that is projected anew for each band of a grid, or for each tile of points.
        budget: how many queries a tile may have.
    """

    first: FirstLayer
    finish: Callable[[Terms], Tensor]
    levels: Sequence[Level]
    kept: Sequence[Projected | None]
    budget: int

    @property
    def batch(self) -> int:
        """B."""
        return len(self.levels[0])

    def tiles(self, query: Query) -> Iterator[Tile]:
        """Tiles that cover a query once: (images, K, H, W) of a grid, else (images, K, P)."""
        if isinstance(query, GridQuery):
            return self._grid(query)
        if isinstance(query, GridSubset):
            return self._subset(query)
        return self._points(query)

    def _grid(self, query: GridQuery) -> Iterator[Tile]:
        sizes = [x.shape[2:] for x, k in zip(self.levels, self.kept, strict=True) if k is None]
        for strip in plan_grid(query, self.batch, self.budget, sizes, self.first.ensemble):
            positions = self.first.positions(self.levels, strip.query)
            for images in runs(self.batch, strip.images):
                levels, kept = _of(images, self.levels), _of(images, self.kept)
                for band in strip.bands():
                    terms = self.first.grid_terms(levels, positions.part(band), kept)
                    for rows, place in strip.tiles(band):
                        yield (images, *place), self.finish(terms.part(rows))

    def _subset(self, query: GridSubset) -> Iterator[Tile]:
        query = cut_subset(query)
        few = sum(query.grid.size) <= self.budget  # so that their position terms may be held
        held = self.first.positions(self.levels, query.grid) if few else None
        for images, part in plan_points(len(query), self.batch, self.budget):
            samples, positions = query[part], held
            if positions is None:
                samples = cut_subset(samples)
                positions = self.first.positions(self.levels, samples.grid)
            levels, kept = _of(images, self.levels), _of(images, self.kept)
            terms = self.first.subset_terms(levels, positions, samples.index, kept)
            yield (images, part), self.finish(terms).flatten(2)

    def _points(self, query: PointQuery) -> Iterator[Tile]:
        for images, part in plan_points(len(query), self.batch, self.budget):
            points = query.of_images(images)[part]
            levels, kept = _of(images, self.levels), _of(images, self.kept)
            terms = self.first.point_terms(levels, points, kept)
            yield (images, part), self.finish(terms).flatten(2)


def _of(images: slice, levels: Sequence[Any]) -> list[Any]:
    """Levels of some images of the batch, None as it is."""
    return [None if level is None else level[images] for level in levels]
