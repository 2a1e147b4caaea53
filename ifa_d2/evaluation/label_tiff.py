"""Writing a field's labels to a tiled TIFF, for pictures larger than memory."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile

from ..files import atomic_path
from ..modeling import SegmentationField


def write_label_tiff(
    field: SegmentationField,
    path: str | Path,
    size: Sequence[int] | None = None,
    window: Sequence[float] | None = None,
    *,
    tile: int = 256,
    colors: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write the labels of a field, a row of tiles at a time.

    The file is deflated, and a BigTIFF where it may pass 4 GB. It appears whole or not at all.

    Args:
        field: the field of the picture.
        path: of the file.
        size, window: see :meth:`SegmentationField.query`.
        tile: side of a tile in pixels, a multiple of 16.
        colors: (R, G, B) of each class, 0 to 255, for viewers; the values stay class ids. Not for
            more than 256 classes.

    Raises:
        ValueError: as :meth:`SegmentationField.query`; a tile that TIFF does not have; a number of
            colours that is not that of the classes.
    """
    if tile < 16 or tile % 16:
        raise ValueError(f"tile must be a positive multiple of 16, got {tile}")
    size = field.query(size, window).size
    dtype = np.dtype(str(field.label_dtype).removeprefix("torch."))
    colormap = None if colors is None else _colormap(colors, field.num_classes)
    bands = (band.numpy() for _, band in field.iter_bands(size, window, height=tile))
    write_bands(path, bands, size, dtype, tile=tile, colormap=colormap)


def write_bands(
    path: str | Path,
    bands: Iterable[np.ndarray],
    size: tuple[int, int],
    dtype: np.dtype,
    *,
    tile: int = 256,
    colormap: np.ndarray | None = None,
) -> None:
    """Write labels to a tiled TIFF as they come; it appears whole or not at all.

    Args:
        path: of the file.
        bands: (``tile``, W) labels each, from top to bottom; the last may have fewer rows.
        size: (H, W) of all.
        dtype: of the labels.
        tile: side of a tile in pixels, a multiple of 16.
        colormap: TIFF's, (3, 256) uint16.
    """
    options = {"photometric": "minisblack"}
    if colormap is not None:
        options = {"photometric": "palette", "colormap": colormap}
    with atomic_path(path) as partial:
        tifffile.imwrite(
            partial,
            _tiles(bands, tile),
            shape=size,
            dtype=dtype,
            tile=(tile, tile),
            compression="zlib",
            bigtiff=size[0] * size[1] * dtype.itemsize >= 1 << 31,
            metadata=None,
            **options,
        )


def _tiles(bands: Iterable[np.ndarray], tile: int) -> Iterator[np.ndarray]:
    """Cut whole tiles, row by row from the left, padded with 0 beyond the labels."""
    for band in bands:
        rows, columns = band.shape
        padded = np.pad(band, ((0, tile - rows), (0, -columns % tile)))
        for left in range(0, columns, tile):
            yield padded[:, left : left + tile]


def _colormap(colors: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """Convert colours to TIFF's colour map, (3, 256) uint16."""
    values = np.asarray(colors)
    if values.shape != (num_classes, 3) or num_classes > 256:
        raise ValueError(
            f"colors must be (R, G, B) of each of {num_classes} classes, at most 256, "
            f"got shape {values.shape}"
        )
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, :num_classes] = values.T * 257
    return colormap
