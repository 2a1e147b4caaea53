"""A raster as a model reads it: windows of its bands, and where it has data.

Shape legend: C bands, h x w pixels of a window.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
import torch
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torch import Tensor

from ..modeling.views import Size, Span

CACHE_MEBIBYTES = 128  # what GDAL may keep of files: by default a twentieth of all memory
_TYPES = ("uint8", "uint16", "int16", "float32")
_COLORS = 3


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[DatasetReader]:
    """Open a raster; that it has no georeference is no warning.

    Raises:
        OSError: there is no such file, or nothing that GDAL reads.
    """
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_MEBIBYTES):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


@dataclass(frozen=True)
class RasterSource:
    """Bands of a file that a model is shown.

    Attributes:
        path: of the file.
        size: (height, width) in pixels.
        bands: numbers of the bands, from 1, in the order of the model's input.
        fill: what pixels without data are shown as, a value for each band.
        masked: whether there may be pixels without data: the file has a value for them, a mask or
            transparency, its numbers may be none, or there is ``nodata``.
        nodata: a value that means no data, besides the one that the file names; None is none.
    """

    path: str
    size: Size
    bands: tuple[int, ...]
    fill: tuple[float, ...]
    masked: bool
    nodata: float | None = None

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        pixel_mean: Sequence[float],
        image_format: str = "RGB",
        nodata: float | None = None,
    ) -> "RasterSource":
        """Look at a file's header.

        Args:
            path: of the file.
            pixel_mean: of the model, a value for each band.
            image_format: channel order of a model of three bands, "RGB" or "BGR".
            nodata: as above.

        Raises:
            OSError: there is no such file, or nothing that GDAL reads.
            ValueError: bands that the model is not shown as they are: of another number or type; a
                picture to be turned.
        """
        with opened(path) as dataset:
            pairs = zip(dataset.indexes, dataset.colorinterp, strict=True)
            bands = tuple(band for band, means in pairs if means is not ColorInterp.alpha)
            _check_bands(dataset, bands, len(pixel_mean))
            turned = dataset.tags().get("EXIF_Orientation", "1")
            if turned not in ("0", "1"):
                raise ValueError(
                    f"input {path} is to be turned by its orientation tag {turned}, which its "
                    "labels would not be: save it upright"
                )
            masked = any(MaskFlags.all_valid not in dataset.mask_flag_enums[b - 1] for b in bands)
            is_float = dataset.dtypes[0] == "float32"
            size = (dataset.height, dataset.width)
        if len(bands) == _COLORS and image_format == "BGR":
            bands = bands[::-1]
        masked = masked or is_float or nodata is not None
        return cls(os.fspath(path), size, bands, tuple(pixel_mean), masked, nodata)

    def image(self, dataset: DatasetReader, rows: Span, cols: Span) -> Tensor | None:
        """Read a window, (C, h, w) float32; None without data."""
        window = Window.from_slices((rows.begin, rows.end), (cols.begin, cols.end))
        valid = self.valid(dataset, window)
        if not valid.any():
            return None
        pixels = dataset.read(self.bands, window=window).astype(np.float32)
        if not valid.all():
            pixels = np.where(valid, pixels, np.float32(self.fill)[:, None, None])
        return torch.from_numpy(pixels)

    def valid(self, dataset: DatasetReader, window: Window) -> np.ndarray:
        """Tell where a window has data, (h, w) bool."""
        if not self.masked:
            return np.ones((window.height, window.width), bool)
        valid = dataset.dataset_mask(window=window) > 0
        is_float = dataset.dtypes[0] == "float32"
        # One at a time, as windows may be of a block.
        for band in self.bands if is_float or self.nodata is not None else ():
            values = dataset.read(band, window=window).astype(np.float32, copy=False)
            valid &= np.isfinite(values)
            if self.nodata is not None:
                valid &= values != np.float32(self.nodata)
        return valid


def _check_bands(dataset: DatasetReader, bands: Sequence[int], channels: int) -> None:
    """Raise a ValueError for bands that a model of some channels is not shown as they are."""
    types = sorted({dataset.dtypes[band - 1] for band in bands})
    known = len(types) == 1 and types[0] in _TYPES
    if known and len(bands) == channels and (channels != _COLORS or types == ["uint8"]):
        return
    held = f"{len(bands)} band{'s' * (len(bands) != 1)} of {' and '.join(types)}"
    if not bands:
        parts = dataset.subdatasets
        held = "no bands" + (f" but parts, to be named as {parts[0]}" if parts else "")
    allowed = "three bands of uint8, red, green and blue"
    if channels != _COLORS:
        allowed = f"{channels} bands of one type of {', '.join(_TYPES)}, in the model's order"
    raise ValueError(
        f"input {dataset.name} has {held}: allowed are, as model.pixel_mean has {channels} "
        f"values, {allowed} (transparency is no band); convert it, or take a recipe of such bands"
    )
