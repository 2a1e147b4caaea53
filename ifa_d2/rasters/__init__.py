# ruff: noqa: E402 (what it needs is looked for first)
"""Segmentation of rasters of any size, such as GeoTIFFs, window by window.

It needs rasterio, which nothing else here does.
"""

from ..extras import check_extra

check_extra("geo", "reading rasters")

from .. import compat  # noqa: F401 (before Detectron2)
from .plan import WINDOW, RasterPlan, plan_raster
from .run import segment_raster
from .source import RasterSource

__all__ = ["WINDOW", "RasterPlan", "RasterSource", "plan_raster", "segment_raster"]
