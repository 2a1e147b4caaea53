"""Windows of a raster, and blocks of its labels that are computed one by one.

A block's labels depend on the windows that touch it alone, and on nothing that was computed before:
in which order blocks come, by how many processes, and after how many interruptions does not matter.

Sizes are (height, width); windows are in pixels of the raster, blocks in samples of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ..modeling.views import Size, Span, Views, reach, slide

WINDOW = (768, 768)  # that a raster is shown in by default, in pixels
# What sums of a block's class probabilities may take.
_SUM_BYTES = 96 << 20
# Windows that touch a block, about: what is lost when a run is killed.
_BLOCK_WINDOWS = 64


@dataclass(frozen=True)
class Block:
    """A rectangle of the answer.

    Attributes:
        rows, cols: samples of the answer.
        row_spans, col_spans: the windows that touch it, with the samples that they have in it.
    """

    rows: slice
    cols: slice
    row_spans: tuple[Span, ...]
    col_spans: tuple[Span, ...]

    @property
    def size(self) -> Size:
        """Height and width in samples."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @property
    def num_windows(self) -> int:
        """Number of the windows that touch it."""
        return len(self.row_spans) * len(self.col_spans)


@dataclass(frozen=True)
class RasterPlan:
    """How the labels of a raster are computed.

    Attributes:
        size: of the raster, in pixels.
        output_size: of the answer, in samples.
        window, stride: of windows, in pixels.
        blend: see :class:`ifa_d2.modeling.views.Views`.
        blocks: cover the answer, row by row.
    """

    size: Size
    output_size: Size
    window: Size
    stride: Size
    blend: str
    blocks: tuple[Block, ...]


def plan_raster(
    size: Size,
    output_size: Size,
    num_classes: int,
    *,
    multiple: int,
    window: Sequence[int] = WINDOW,
    stride: float | Sequence[float] = 2 / 3,
    blend: str | None = None,
) -> RasterPlan:
    """Plan windows and blocks.

    Windows begin at multiples of what the model pads pictures to: there, its features are those of
    the whole picture.

    Args:
        size, output_size: see :class:`RasterPlan`.
        num_classes: of the model.
        multiple: of pixels that the model pads to; strides are rounded down to one.
        window, stride, blend: as of :class:`ifa_d2.modeling.views.Views`; ``blend`` None is
            "gaussian".

    Raises:
        ValueError: a value out of range, by name.
    """
    blend = blend or "gaussian"
    views = Views(window=window, stride=stride, blend=blend)
    if min(views.window) < multiple:
        raise ValueError(
            f"window must be at least {multiple} pixels high and wide, as the model pads pictures "
            f"to multiples of that, got {views.window}"
        )
    strides = tuple(max(multiple, side // multiple * multiple) for side in views.strides())
    axes = zip(size, views.window, strides, output_size, strict=True)
    rows, cols = (slide(*axis, blend=blend, multiple=multiple) for axis in axes)
    widest = max(1, _SUM_BYTES // (4 * num_classes * reach(rows)))
    blocks = []
    col_parts = _cut(cols, widest, len(cols))
    most = max(len(spans) for _, spans in col_parts)
    row_parts = _cut(rows, rows[0].total, max(1, _BLOCK_WINDOWS // most))
    for (row, row_spans), (col, col_spans) in product(row_parts, col_parts):
        blocks.append(Block(row, col, row_spans, col_spans))
    return RasterPlan(size, output_size, views.window, strides, blend, tuple(blocks))


def _cut(spans: Sequence[Span], longest: int, most: int) -> list[tuple[slice, tuple[Span, ...]]]:
    """Cut an axis into runs of samples, where windows begin if that is near enough.

    Args:
        spans: windows of the axis.
        longest: samples of a run, at most.
        most: windows that begin in a run, at most.

    Returns:
        Runs, and the windows that touch them.
    """
    starts, total = [span.samples.start for span in spans], spans[0].total
    runs, start = [], 0
    while start < total:
        ahead = [one for one in starts if start < one][:most]
        within = [one for one in ahead if one <= start + longest]
        stop = within[-1] if within else min(start + longest, total)
        if len(ahead) < most and total <= start + longest:
            stop = total
        run = slice(start, stop)
        inside = (one for one in spans if one.samples.start < stop and one.samples.stop > start)
        runs.append((run, tuple(one.part(run) for one in inside)))
        start = stop
    return runs
