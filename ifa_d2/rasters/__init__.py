"""Segmentation of rasters of any size, such as GeoTIFFs, window by window.

It needs rasterio, which nothing else here does.
"""

from importlib.util import find_spec

if find_spec("rasterio") is None:
    raise ImportError(
        "rasters are read by rasterio, which is not installed: `python -m pip install rasterio`"
    )

from .. import compat  # noqa: F401 (before Detectron2)
from .plan import WINDOW, RasterPlan, plan_raster
from .run import segment_raster
from .source import RasterSource

__all__ = ["WINDOW", "RasterPlan", "RasterSource", "plan_raster", "segment_raster"]
