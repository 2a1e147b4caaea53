"""Blocks of labels put together to one file, where the raster lies on the ground."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.transform import Affine
from rasterio.windows import Window

from ..modeling.views import Size
from .plan import RasterPlan
from .source import CACHE_MEBIBYTES, opened

_TILE = 512  # as Cloud-optimised GeoTIFFs have by default
_COMPRESSION = "DEFLATE"
_MOSAIC, _FINAL = "mosaic.tif", "labels.tif"


def assemble(
    folder: Path,
    files: Sequence[Path],
    plan: RasterPlan,
    *,
    source: str,
    dtype: np.dtype,
    colors: Sequence[Sequence[int]] | None = None,
) -> Path:
    """Put blocks together to a Cloud-optimised GeoTIFF.

    Its bytes depend on the labels and on where they lie alone. It is tiled and deflated, with
    overviews, which show the most frequent class; with a GDAL that cannot write such files, a
    GeoTIFF without.

    Args:
        folder: for the file, and for what is only needed meanwhile.
        files: of the plan's blocks.
        plan: where they lie.
        source: the raster's file, whose georeference is kept.
        dtype: of the labels, whose largest value means no data.
        colors: (R, G, B) of each class, 0 to 255; not for 16 bits.

    Returns:
        The file.
    """
    mosaic, final = folder / _MOSAIC, folder / _FINAL
    for path in (mosaic, final):  # of a run that was killed
        path.unlink(missing_ok=True)
    profile = {
        "driver": "GTiff",
        "height": plan.output_size[0],
        "width": plan.output_size[1],
        "count": 1,
        "dtype": dtype,
        "nodata": np.iinfo(dtype).max,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "compress": _COMPRESSION,
        "bigtiff": "IF_SAFER",
    }
    with opened(source) as raster, rasterio.open(mosaic, "w", **profile) as written:
        _georeference(written, raster)
        if colors is not None and dtype.itemsize == 1:
            written.write_colormap(1, {i: (*color, 255) for i, color in enumerate(colors)})
        for file, block in zip(files, plan.blocks, strict=True):
            place = Window(block.cols.start, block.rows.start, *block.size[::-1])
            written.write(tifffile.imread(file), 1, window=place)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MEBIBYTES) as env:
        if "COG" not in env.drivers():
            return mosaic
        options = {"compress": _COMPRESSION, "blocksize": _TILE, "bigtiff": "IF_SAFER"}
        rasterio.shutil.copy(mosaic, final, driver="COG", overview_resampling="MODE", **options)
    os.unlink(mosaic)
    return final


def check_georeference(dataset: DatasetReader, output_size: Size) -> None:
    """Check that a raster's georeference can be kept.

    Raises:
        ValueError: it has rational polynomials, and the answer another size.
    """
    if dataset.rpcs is not None and output_size != (dataset.height, dataset.width):
        raise ValueError(
            f"input {dataset.name} lies on the ground by rational polynomials (RPCs), which are of "
            "its own pixels: segment it without scale or ground_distance, or rectify it first"
        )


def _georeference(written: DatasetWriter, raster: DatasetReader) -> None:
    """Let a file lie where the raster does, whatever its size."""
    ratio = raster.height / written.height, raster.width / written.width
    points, points_crs = raster.gcps
    if points:
        scaled = [
            GroundControlPoint(p.row / ratio[0], p.col / ratio[1], p.x, p.y, p.z, p.id, p.info)
            for p in points
        ]
        written.gcps = (scaled, points_crs)
    elif not raster.transform.is_identity:
        t, (tall, wide) = raster.transform, ratio
        written.transform = Affine(t.a * wide, t.b * tall, t.c, t.d * wide, t.e * tall, t.f)
    if raster.crs is not None:
        written.crs = raster.crs
    if raster.rpcs is not None:
        written.rpcs = raster.rpcs
    if (kind := raster.tags().get("AREA_OR_POINT")) is not None:
        written.update_tags(AREA_OR_POINT=kind)
