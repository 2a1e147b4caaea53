"""What of a raster a model is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ifa_d2.modeling.views import slide
from ifa_d2.rasters import RasterSource
from ifa_d2.rasters.source import opened
from tests.rasters.made import make_pixels, write_raster

MEAN = (10.0, 20.0, 30.0)


def window(source: RasterSource, top: int, left: int, side: int) -> torch.Tensor | None:
    """Rows and columns of a window that has its place among others."""
    rows, cols = (
        next(span for span in slide(length, side, 1, length) if span.begin == first)
        for length, first in zip(source.size, (top, left), strict=True)
    )
    with opened(source.path) as dataset:
        return source.image(dataset, rows, cols)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_windows_in_the_model_s_order(tmp_path: Path, image_format: str) -> None:
    pixels = make_pixels(70, 90)
    path = write_raster(tmp_path / "a.tif", pixels)
    source = RasterSource.from_file(path, MEAN, image_format)
    assert source.size == (70, 90) and not source.masked
    found = window(source, 30, 50, 33)
    expected = pixels[:: 1 if image_format == "RGB" else -1, 30:63, 50:83]
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_bands_in_the_file_s_order(tmp_path: Path, dtype: str) -> None:
    pixels = make_pixels(40, 50, 5, dtype)
    path = write_raster(tmp_path / "a.tif", pixels)
    source = RasterSource.from_file(path, (0.0,) * 5, "BGR")
    assert np.array_equal(window(source, 3, 4, 20).numpy(), pixels[:, 3:23, 4:24])


def test_a_value_of_the_data_set_means_no_data_too(tmp_path: Path) -> None:
    pixels = make_pixels(40, 50, 5, "uint16").clip(2)
    pixels[2, 5:9, 7:20] = 1  # one band is enough
    path = write_raster(tmp_path / "a.tif", pixels)
    source = RasterSource.from_file(path, (9.0,) * 5, "bands", nodata=1.0)
    assert source.masked and not RasterSource.from_file(path, (9.0,) * 5, "bands").masked
    missing = np.zeros((40, 50), bool)
    missing[5:9, 7:20] = True
    found = window(source, 0, 0, 40)
    assert np.array_equal(found.numpy(), np.where(missing, 9, pixels)[:, :, :40])
    assert window(source, 5, 7, 4) is None


def test_pixels_without_data_are_shown_as_the_mean(tmp_path: Path) -> None:
    pixels = make_pixels(40, 50).clip(1)
    pixels[:, 5:9, 7:20] = 0
    valid = (pixels > 0).all(0)
    fill = np.array(MEAN)[:, None, None]
    alpha = np.concatenate([pixels, 255 * valid[None].astype(np.uint8)])
    numbers = np.where(valid, pixels, np.nan).astype(np.float32)
    paths = [
        write_raster(tmp_path / "nodata.tif", pixels, nodata=0),
        write_raster(tmp_path / "alpha.tif", alpha, photometric="RGB", alpha="YES"),
    ]
    paths.append(write_raster(tmp_path / "nan.tif", np.concatenate([numbers, numbers[:1]])))
    for path in paths:
        mean = (*MEAN, 40.0) if path.stem == "nan" else MEAN
        source = RasterSource.from_file(path, mean)
        assert source.masked
        found = window(source, 2, 3, 30)[:3].numpy()
        expected = np.where(valid, pixels, fill)[:, 2:32, 3:33]
        assert np.array_equal(found, expected), path
        assert window(source, 5, 8, 4) is None


@pytest.mark.parametrize(
    ("bands", "dtype", "channels", "words"),
    [
        (1, "uint8", 3, "has 1 band of uint8: allowed are, .* three bands of uint8, red"),
        (4, "uint16", 3, "has 4 bands of uint16: allowed are, as model.pixel_mean has 3 values"),
        (3, "uint16", 3, "has 3 bands of uint16: allowed"),
        (3, "uint8", 4, "has 3 bands of uint8: allowed .* 4 bands of one type of uint8, uint16"),
        (4, "float64", 4, "has 4 bands of float64: allowed"),
    ],
)
def test_other_bands_are_refused(
    tmp_path: Path, bands: int, dtype: str, channels: int, words: str
) -> None:
    path = write_raster(tmp_path / "a.tif", make_pixels(20, 20, bands, dtype))
    with pytest.raises(ValueError, match=words):
        RasterSource.from_file(path, (0.0,) * channels)


def test_files_that_are_no_rasters(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    for name in ("text.tif", "gone.tif"):
        with pytest.raises(OSError, match=name):
            RasterSource.from_file(tmp_path / name, MEAN)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    with pytest.raises(ValueError, match="to be turned by its orientation tag 6"):
        RasterSource.from_file(tmp_path / "turned.jpg", MEAN)
