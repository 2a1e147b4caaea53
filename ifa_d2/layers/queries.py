"""Queries of a field, and the feature cells that they refer to.

Image coordinates run from 0 (the top or left border) to 1 (the bottom or right border); axis order
is (y, x) throughout. A level of ``m`` cells along an axis has its cell centres at ``(i + 0.5) /
m``. Offsets from a cell centre are measured in half cells, so a cell spans -1..1 (paper, Sec. 3.3:
``x_q - x*``). A sample's footprint is the width, along each axis, of the part of the image that it
stands for: the spacing of a grid unless it is given, 0 for a point.

Shape legend: B batch, P points, n queries along one axis, m cells along one axis,
T taps (cells that answer one query along one axis: 1, or 2 with the local ensemble).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

_INT64 = 2**63 - 1
# An int, or what stands for one while a program is recorded: a symbol or a tensor without axes.
Length = int | torch.SymInt | Tensor
# A part of a query: a slice of each of its axes.
Place = tuple[slice, ...]


def send(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy values, not in pinned memory, to a device without waiting for it.

    They are read before this returns. What comes to the CPU may be used at once, so is waited for.
    """
    return values.to(device, dtype, non_blocking=device.type != "cpu")


@dataclass(frozen=True)
class Taps:
    """Cells that answer queries along one axis.

    Attributes:
        cells: (T, ...) int64 cell indices.
        offsets: (T, ...) float64 offsets of the queries from those cells' centres, in half cells.
        weights: (T, ...) float64 weights that sum to 1 over T; None for a single tap.
        footprints: float64 widths of the samples in half cells, which broadcast to an axis of
            ``offsets`` without its T.
    """

    cells: Tensor
    offsets: Tensor
    weights: Tensor | None
    footprints: Tensor

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Taps":
        """Move to a device, all but the cells in a floating-point type (None: their own)."""
        return Taps(
            send(self.cells, device),
            send(self.offsets, device, dtype),
            None if self.weights is None else send(self.weights, device, dtype),
            send(self.footprints, device, dtype),
        )

    def pick(self, index: Tensor) -> "Taps":
        """Take the taps of some queries of an axis, (T, n) to (T, *index.shape)."""
        weights = None if self.weights is None else self.weights[:, index]
        return Taps(self.cells[:, index], self.offsets[:, index], weights, self.footprints)

    def unsqueeze(self, dim: int) -> "Taps":
        """Put in an axis of length 1."""
        weights = None if self.weights is None else self.weights.unsqueeze(dim)
        cells, offsets = self.cells.unsqueeze(dim), self.offsets.unsqueeze(dim)
        return Taps(cells, offsets, weights, self.footprints)

    def span(self) -> tuple[int, int]:
        """First and last of the cells."""
        first, last = torch.stack(self.cells.aminmax()).tolist()
        return first, last

    def one(self, tap: int) -> "Taps":
        """Let one of the T cells answer alone."""
        part = slice(tap, tap + 1)
        return Taps(self.cells[part], self.offsets[part], None, self.footprints)


@dataclass(frozen=True)
class GridAxis:
    """Evenly spaced coordinates as exact rationals, ``(start + step * j) / denominator``.

    Nearest cells then come from integer division alone, never from float rounding: of 64 bits, or
    of as many as it takes.

    Attributes:
        start, step, size, denominator: see above; ``size`` coordinates.
        footprint: width of a sample, as a share of the axis; None for the spacing.
    """

    start: int
    step: int
    size: int
    denominator: int
    footprint: float | None = None

    @classmethod
    def centers(cls, size: int) -> "GridAxis":
        """Centres of ``size`` equal cells that cover the whole axis."""
        return cls.window(0, 1, size, 1)

    @classmethod
    def window(cls, begin: int, end: int, size: int, extent: int) -> "GridAxis":
        """Centres of ``size`` equal cells over pixels ``begin..end``.

        Args:
            begin, end: in pixels of the axis.
            size: number of cells.
            extent: pixels of the whole axis.

        Raises:
            ValueError: ``size`` or ``extent`` below 1, or ``end`` not beyond ``begin``.
        """
        for name, value in (("size", size), ("extent", extent)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if end <= begin:
            raise ValueError(f"window end must be greater than its begin {begin}, got {end}")
        span = end - begin
        return cls(2 * size * begin + span, 2 * span, size, 2 * size * extent)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> "GridAxis":
        """Select a run of the queries (a slice of step 1)."""
        begin, end, _ = part.indices(self.size)
        return replace(self, start=self.start + self.step * begin, size=end - begin)

    def span(self, m: int, ensemble: bool) -> tuple[int, int]:
        """First and last of ``m`` cells that :meth:`taps` refers to."""
        ends = (self.start, self.start + self.step * (self.size - 1))
        # In halves of a cell: the lower of two cells answers from its centre on.
        doubled = [2 * end * m - self.denominator * ensemble for end in ends]
        first, last = (min(max(d // (2 * self.denominator), 0), m - 1) for d in doubled)
        return first, min(last + ensemble, m - 1)

    def on_cells(self, m: int) -> bool:
        """Return whether queries are the centres of consecutive cells of ``m``."""
        den, last = self.denominator, self.start + self.step * (self.size - 1)
        centred = self.step * m == den and (2 * self.start * m - den) % (2 * den) == 0
        return centred and 0 <= self.start and last < den

    @property
    def coordinates(self) -> Tensor:
        """Coordinates, (n,) float64."""
        if self._largest(1) > _INT64:
            numbers = [(self.start + self.step * j) / self.denominator for j in range(self.size)]
            return torch.tensor(numbers, dtype=torch.float64)
        return self._numerators().double() / self.denominator

    def _numerators(self) -> Tensor:
        return torch.arange(self.size) * self.step + self.start

    def _largest(self, m: int) -> int:
        """Bound the integers that :func:`rational_taps` computes over ``m`` cells."""
        last = self.start + self.step * (self.size - 1)
        return 4 * (m + 1) * max(abs(self.start), abs(last), self.denominator)

    def taps(self, m: int, ensemble: bool) -> Taps:
        """Compute the taps over ``m`` cells, on the CPU.

        Args:
            m: number of cells.
            ensemble: the two nearest cells, with weights, instead of the nearest.
        """
        den = self.denominator
        wide = self._largest(m) > _INT64
        taps = (
            self._wide_taps(m, ensemble)
            if wide
            else rational_taps(self._numerators() * m, den, m, ensemble)
        )
        footprint = self.step / den if self.footprint is None else self.footprint
        footprints = torch.tensor(2 * m * footprint, dtype=torch.float64)
        return replace(taps, footprints=footprints)

    def _wide_taps(self, m: int, ensemble: bool) -> Taps:
        """Compute :func:`rational_taps` of integers beyond 64 bits."""
        den = self.denominator
        doubled = [2 * (self.start + self.step * j) * m for j in range(self.size)]
        shift = den if ensemble else 0  # two cells answer from one's centre to the next one's
        lower = [min(max((d - shift) // (2 * den), 0), m - 1) for d in doubled]
        taps = [lower, [min(cell + 1, m - 1) for cell in lower]] if ensemble else [lower]
        offsets = [
            [(d - (2 * cell + 1) * den) / den for d, cell in zip(doubled, cells, strict=True)]
            for cells in taps
        ]
        cells, along = torch.tensor(taps), torch.tensor(offsets, dtype=torch.float64)
        none = torch.zeros((), dtype=torch.float64)
        if not ensemble:
            return Taps(cells, along, None, none)
        weight = (along[0] / 2).clamp(0, 1)  # an offset of 2 half cells is the next cell's centre
        return Taps(cells, along, torch.stack([1 - weight, weight]), none)


def check_coordinates(name: str, coordinates: Tensor) -> None:
    """Raise a ValueError unless ``coordinates`` are finite floating-point numbers."""
    if not torch.is_floating_point(coordinates):
        raise ValueError(f"{name} must be floating point, got {coordinates.dtype}")
    if not torch.isfinite(coordinates).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def rational_taps(scaled: Tensor, den: Length, m: Length, ensemble: bool) -> Taps:
    """Compute taps of queries at ``scaled / den`` cells, from integers alone.

    Their footprint is 0.

    Args:
        scaled: (n,) int64.
        den: their denominator.
        m: number of cells; a query outside of them is the border cell's.
        ensemble: the two nearest cells, with weights, instead of the nearest.
    """
    last = torch.ones_like(scaled) * (m - 1)  # a tensor, as m may be one
    none = torch.zeros((), dtype=torch.float64, device=scaled.device)

    def nearest(cells: Tensor) -> Tensor:
        return torch.minimum(cells.clamp(min=0), last)

    if not ensemble:
        cells = nearest(scaled // den)[None]
        return Taps(cells, (2 * scaled - (2 * cells + 1) * den).double() / den, None, none)
    doubled = 2 * scaled - den  # cell centres are at multiples of 2 * den
    lower = nearest(doubled // (2 * den))
    weight = ((doubled - 2 * den * lower).double() / (2 * den)).clamp(0, 1)
    cells = torch.stack([lower, nearest(lower + 1)])
    offsets = (2 * scaled - (2 * cells + 1) * den).double() / den
    return Taps(cells, offsets, torch.stack([1 - weight, weight]), none)


def coordinate_taps(coordinates: Tensor, m: int, ensemble: bool, footprint: Tensor) -> Taps:
    """Compute taps of any coordinates over ``m`` cells.

    A coordinate outside [0, 1] refers to the border cell.

    Args:
        coordinates: (*S,) floating point.
        m: number of cells.
        ensemble: the two nearest cells, with weights, instead of the nearest.
        footprint: widths of the samples as shares of the axis, which broadcast to (*S,).
    """
    scaled = coordinates.double() * m
    footprints = footprint.double() * (2 * m)
    if not ensemble:
        cells = scaled.floor().clamp_(0, m - 1).long()[None]
        return Taps(cells, 2 * scaled - 2 * cells - 1, None, footprints)
    lower = (scaled - 0.5).floor().clamp_(0, m - 1).long()
    upper = (lower + 1).clamp_(max=m - 1)
    weight = (scaled - 0.5 - lower).clamp_(0, 1)
    cells = torch.stack([lower, upper])
    weights = torch.stack([1 - weight, weight])
    return Taps(cells, 2 * scaled - 2 * cells - 1, weights, footprints)


@dataclass(frozen=True)
class GridQuery:
    """Axis-aligned grid: every row coordinate with every column coordinate.

    Any size, window, zoom or padding is a choice of the two vectors.
    """

    rows: GridAxis
    cols: GridAxis

    @classmethod
    def regular(cls, height: int, width: int) -> "GridQuery":
        """Pixel centres of a ``height`` x ``width`` picture of the whole image."""
        return cls(GridAxis.centers(height), GridAxis.centers(width))

    @classmethod
    def window(
        cls, box: Sequence[int], size: tuple[int, int], image_size: tuple[int, int]
    ) -> "GridQuery":
        """Window of the image, at any size.

        Args:
            box: (y0, x0, y1, x1) in pixels of ``image_size``; it may reach over the border.
            size: (height, width) of the grid that covers the window.
            image_size: (height, width) that coordinates 0..1 stand for (the padded input's, where
                the features are of a padded input).
        """
        y0, x0, y1, x1 = box
        rows = GridAxis.window(y0, y1, size[0], image_size[0])
        return cls(rows, GridAxis.window(x0, x1, size[1], image_size[1]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return len(self.rows), len(self.cols)

    def __getitem__(self, place: Place) -> "GridQuery":
        """Select a part of the grid, by a slice of its rows and one of its columns."""
        return GridQuery(self.rows[place[0]], self.cols[place[1]])

    @property
    def grid(self) -> "GridQuery":
        """The grid itself; see :class:`GridSubset`."""
        return self

    def numbers(self, place: Place) -> tuple[Tensor, Tensor]:
        """Row and column numbers of a part, (1, h, 1) and (1, 1, w)."""
        rows, cols = (torch.arange(part.start, part.stop) for part in place)
        return rows[None, :, None], cols[None, None]


@dataclass(frozen=True)
class PointQuery:
    """Points of each image, (B, P, 2) floating-point (y, x) coordinates in [0, 1].

    The values are not looked at here (on a GPU that would wait for it); :func:`check_coordinates`
    does.

    Attributes:
        coordinates: see above.
        footprints: (B, 2) widths (y, x) of the samples of each image, as shares of its axes; None
            for 0.
    """

    coordinates: Tensor
    footprints: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.coordinates.shape)
        if len(shape) != 3 or shape[-1] != 2:
            raise ValueError(f"coordinates must have shape (B, P, 2), got {shape}")
        if not torch.is_floating_point(self.coordinates):
            raise ValueError(f"coordinates must be floating point, got {self.coordinates.dtype}")
        if self.footprints is not None and tuple(self.footprints.shape) != (shape[0], 2):
            raise ValueError(
                f"footprints must have shape ({shape[0]}, 2), got {tuple(self.footprints.shape)}"
            )

    def taps(self, h: int, w: int, ensemble: bool) -> tuple[Taps, Taps]:
        """Compute the taps along y and x over h x w cells; see :meth:`GridAxis.taps`."""
        y, x = self.coordinates.unbind(-1)  # (B, P)
        wide_y = wide_x = self.coordinates.new_zeros(())
        if self.footprints is not None:
            wide_y, wide_x = self.footprints[:, None].to(self.coordinates.device).unbind(-1)
        return coordinate_taps(y, h, ensemble, wide_y), coordinate_taps(x, w, ensemble, wide_x)

    @property
    def size(self) -> tuple[int]:
        """Number of points, (P,)."""
        return (self.coordinates.shape[1],)

    def __getitem__(self, place: Place) -> "PointQuery":
        """Select a run of each image's points."""
        return PointQuery(self.coordinates[:, place[0]], self.footprints)


@dataclass(frozen=True)
class GridSubset:
    """Samples of a grid, the same of each image.

    They refer to the same cells as in the whole grid, and their position terms are those of its
    rows and columns.

    Attributes:
        grid: the grid.
        index: (P, 2) int64 row and column numbers in it, unchecked.
    """

    grid: GridQuery
    index: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.index.shape)
        if len(shape) != 2 or shape[1] != 2 or self.index.dtype != torch.int64:
            raise ValueError(f"index must be int64 of shape (P, 2), got {self.index.dtype} {shape}")

    @property
    def size(self) -> tuple[int]:
        """Number of points, (P,)."""
        return (len(self.index),)

    def __getitem__(self, place: Place) -> "GridSubset":
        """Select a run of the samples."""
        return GridSubset(self.grid, self.index[place[0]])

    def cropped(self) -> "GridSubset":
        """Return the same samples of the smallest part of the grid that holds them."""
        corner, opposite = self.index.aminmax(dim=0)
        (top, left), (bottom, right) = torch.stack([corner, opposite]).tolist()
        part = self.grid[slice(top, bottom + 1), slice(left, right + 1)]
        return GridSubset(part, self.index - corner)

    def numbers(self, place: Place) -> tuple[Tensor, Tensor]:
        """Row and column numbers of a run, (1, p) each."""
        rows, cols = self.index[place[0]].unbind(1)
        return rows[None], cols[None]


Query = GridQuery | PointQuery | GridSubset


def split(
    query: Query, fits: Callable[[Query], bool], origin: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], Query]]:
    """Halve a query along its longest axis until each part fits.

    Args:
        query: not empty.
        fits: whether a part need not be halved; one sample always fits.
        origin: where the query begins in a larger one; () is its own beginning.

    Yields:
        Where a part begins, and the part. The parts cover the query once.
    """
    origin = origin or (0,) * len(query.size)
    longest = max(query.size)
    if longest == 1 or fits(query):
        yield origin, query
        return
    axis = query.size.index(longest)
    for begin, end in ((0, (longest + 1) // 2), ((longest + 1) // 2, longest)):
        place = [slice(0, n) for n in query.size]
        place[axis] = slice(begin, end)
        start = [o + begin * (i == axis) for i, o in enumerate(origin)]
        yield from split(query[tuple(place)], fits, tuple(start))


def tiles(size: tuple[int, ...], count: int | None) -> Iterator[Place]:
    """Cut a shape into parts of at most ``count`` samples, row by row.

    With None there is one part.
    """
    whole = tuple(slice(0, n) for n in size)
    if count is None or math.prod(size) <= count:
        yield whole
        return
    cols = min(size[-1], count)
    rows = max(1, count // cols)
    for first in product(*(range(0, n, rows) for n in size[:-1])):
        for left in range(0, size[-1], cols):
            ends = (min(top + rows, n) for top, n in zip(first, size[:-1], strict=True))
            yield (
                *map(slice, first, ends),
                slice(left, min(left + cols, size[-1])),
            )
