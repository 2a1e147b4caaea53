"""Labels of one block of a raster.

Shape legend: K classes, H x W samples of the block.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torch import Tensor, nn

from ..fields import SegmentationField
from ..layers import GridAxis, GridQuery
from ..modeling.picture_fields import compute_fields
from ..modeling.scores import RunningScores, iter_shares
from ..modeling.views import Size, Span, reach
from .plan import Block
from .source import RasterSource, opened


def label_type(num_classes: int) -> np.dtype:
    """Return the type of labels, which has a largest value that is no class: without data."""
    return np.dtype(np.uint8 if num_classes <= 255 else np.uint16)


@torch.no_grad()
def block_labels(
    model: nn.Module,
    source: RasterSource,
    block: Block,
    batch_size: int = 1,
    progress: Callable[[int], None] = lambda windows: None,
) -> np.ndarray:
    """Compute the labels of a block, (H, W).

    Args:
        model: as of :func:`ifa_d2.modeling.picture_fields.compute_fields`.
        source: the raster.
        block: of its plan.
        batch_size: windows that pass the model at once.
        progress: called with numbers of windows that are done.

    Returns:
        Classes, of :func:`label_type`; its largest value where the raster has no data.

    Raises:
        OSError: the file cannot be read.
        ValueError: logits that are not finite.
    """
    num_classes = model.sem_seg_head.num_classes
    dtype = label_type(num_classes)
    with opened(source.path) as dataset:
        valid = _valid_samples(source, dataset, block)
        if not valid.any():
            progress(block.num_windows)
            return np.full(block.size, np.iinfo(dtype).max, dtype)
        scores = RunningScores(block.size, reach(block.row_spans))
        # Makes room for windows' shares, of which there are none above the first that has data.
        scores.add_(0, 0, torch.zeros(num_classes, 0, 0, device=model.pixel_mean.device))
        for rows in block.row_spans:
            top = block.rows.start
            scores.make_room(slice(rows.samples.start - top, rows.samples.stop - top))
            for i in range(0, len(block.col_spans), batch_size):
                cols = block.col_spans[i : i + batch_size]
                images = [source.image(dataset, rows, col) for col in cols]
                _show(model, block, rows, cols, images, scores)
                progress(len(cols))
    labels = scores.labels().numpy().astype(dtype)
    labels[~valid] = np.iinfo(dtype).max
    return labels


def _show(
    model: nn.Module,
    block: Block,
    rows: Span,
    cols: tuple[Span, ...],
    images: list[Tensor | None],
    scores: RunningScores,
) -> None:
    """Pass windows through the model at once, and add their shares; None has no data."""
    shown = [(col, image) for col, image in zip(cols, images, strict=True) if image is not None]
    if not shown:
        return
    fields = compute_fields(model, [{"image": image} for _, image in shown])
    for (col, _), field in zip(shown, fields, strict=True):
        query = _query(field, rows, col)
        place = (rows.samples.start - block.rows.start, col.samples.start - block.cols.start)
        for top, left, shares in iter_shares(field, query, rows, col):
            scores.add_(place[0] + top, place[1] + left, shares)


def _query(field: SegmentationField, rows: Span, cols: Span) -> GridQuery:
    """The samples of a window, each of which stands for no less than a pixel."""
    return GridQuery(
        *(_axis(*pair) for pair in zip((rows, cols), field.picture_share, strict=True))
    )


def _axis(span: Span, share: Fraction) -> GridAxis:
    axis = span.axis(share)
    pixel, spacing = share / (span.end - span.begin), Fraction(axis.step, axis.denominator)
    return replace(axis, footprint=float(max(pixel, spacing)))


def _valid_samples(source: RasterSource, dataset: DatasetReader, block: Block) -> np.ndarray:
    """Tell at which samples the raster has data, (H, W) bool, by the pixel around each."""
    totals: Size = block.row_spans[0].total, block.col_spans[0].total
    pixels = [
        (2 * np.arange(part.start, part.stop) + 1) * length // (2 * total)
        for part, length, total in zip((block.rows, block.cols), source.size, totals, strict=True)
    ]
    window = Window.from_slices(*((int(axis[0]), int(axis[-1]) + 1) for axis in pixels))
    valid = source.valid(dataset, window)
    return valid[np.ix_(*(axis - axis[0] for axis in pixels))]
