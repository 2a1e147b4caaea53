"""Reader of pictures of any number of bands, in their own values.

A pixel where some band has no data is NaN in all: of a float, what is not finite; of a TIFF with
GDAL's tag of such a value, that value; and a value that a data set is registered with.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import tifffile
from detectron2.utils.file_io import PathManager

from .pictures import opened, page_count

BANDS = "bands"  # the image format of such pictures, beside "RGB" and "BGR"
TYPES = ("uint8", "uint16", "float32")
_TIFF_SUFFIXES = (".tif", ".tiff")
_ORIENTATION, _GDAL_NODATA = 274, 42113  # tags of TIFF
_ALLOWED = (
    f"bands are read of TIFFs of one page and of PNGs, of the types {', '.join(TYPES)}; convert it "
    "first"
)


def read_bands(
    path: str | os.PathLike[str], count: int | None = None, nodata: float | None = None
) -> np.ndarray:
    """Read a picture's bands.

    Args:
        path: a TIFF or PNG, or an address that Detectron2's ``PathManager`` knows.
        count: how many bands it must have; None takes any number.
        nodata: a value that means no data, besides the one that the file names.

    Returns:
        (H, W, C) float32, NaN in all bands of pixels without data. A PNG's colours are RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another number of bands, another type, several pages, an orientation tag, or a
            damaged file; the message names it.
    """
    path = os.fspath(path)
    _check(path, count)
    local = PathManager.get_local_path(path)
    if path.lower().endswith(_TIFF_SUFFIXES):
        try:
            with tifffile.TiffFile(local) as file:
                page = file.pages[0]
                pixels, named = page.asarray(), page.tags.valueof(_GDAL_NODATA)
                if page.planarconfig == 2 and pixels.ndim == 3:
                    pixels = pixels.transpose(1, 2, 0)
        except Exception as error:  # tifffile raises anything
            raise ValueError(f"cannot read the image {path!r}: {error}") from error
    else:
        pixels, named = cv2.imread(local, cv2.IMREAD_UNCHANGED), None
        if pixels is None:
            raise ValueError(f"cannot read the image {path!r}: OpenCV cannot decode it")
        if pixels.ndim == 3 and pixels.shape[2] >= 3:
            pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return to_bands(pixels, (nodata, None if named is None else _number(named, path)))


def read_record_bands(record: Mapping[str, Any]) -> np.ndarray:
    """Read the picture of a data set's record with ``bands``, and maybe ``nodata``.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_bands`.
    """
    return read_bands(record["file_name"], record["bands"], record.get("nodata"))


def to_bands(pixels: np.ndarray, nodata: Iterable[float | None] = ()) -> np.ndarray:
    """Copy pixels (H, W, C) to float32, with NaN in all bands where some band has no data.

    Args:
        pixels: of one of :data:`TYPES`.
        nodata: values that mean none, besides those that are not finite; None is passed over.
    """
    bands = np.array(pixels, np.float32, order="C")
    missing = ~np.isfinite(bands)
    for value in nodata:
        if value is not None:
            missing |= bands == np.float32(value)
    bands[missing.any(axis=2)] = np.nan
    return bands


def bands_size(path: str | os.PathLike[str], count: int | None = None) -> tuple[int, int]:
    """Read (height, width) as :func:`read_bands` returns it, of the header alone.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_bands`, as far as the header tells.
    """
    return _check(os.fspath(path), count)


def without_data(bands: np.ndarray) -> np.ndarray:
    """Tell which pixels of (H, W, C) have no data, (H, W) bool."""
    return np.isnan(bands[:, :, 0])


def _check(path: str, count: int | None) -> tuple[int, int]:
    """Check a file's header; gives its (height, width)."""
    is_tiff = path.lower().endswith(_TIFF_SUFFIXES)
    size, found, kind, reason = _tiff_header(path) if is_tiff else _png_header(path)
    if kind not in TYPES:
        reason = reason or f"has pixels of {kind}"
    if reason:
        raise ValueError(f"image {path!r} {reason}: {_ALLOWED}")
    if count not in (None, found):
        raise ValueError(f"image {path!r} has {found} bands of {kind}, but {count} are expected")
    return size


def _tiff_header(path: str) -> tuple[tuple[int, int], int, str, str]:
    """(height, width), bands, type and what is against a TIFF."""
    try:
        with tifffile.TiffFile(PathManager.get_local_path(path)) as file:
            pages = [page for page in file.pages if not page.subfiletype & 0b101]
            page = file.pages[0]
            size = page.imagelength, page.imagewidth
            turned = page.tags.valueof(_ORIENTATION, default=1) != 1
            found, kind = page.samplesperpixel, str(page.dtype)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"cannot read the image {path!r}: {error}") from error
    reason = f"holds {len(pages)} pages" if len(pages) > 1 else ""
    return size, found, kind, reason or ("is to be turned by its tag" if turned else "")


def _png_header(path: str) -> tuple[tuple[int, int], int, str, str]:
    """(height, width), bands, type and what is against another file."""
    with opened(path, "image") as image:
        reason = "" if image.format == "PNG" else f"is a {image.format}"
        reason = reason or ("holds several pictures" if page_count(image) > 1 else "")
        if image.mode == "P" or image.getexif().get(_ORIENTATION, 1) != 1:
            reason = reason or "has a palette or is to be turned by its tag"
        width, height = image.size
        raw = image.tile[0][3] if image.tile else ""
        raw = raw if isinstance(raw, str) else raw[0]
        deep = "16" in raw or image.mode.startswith("I")
        return (height, width), len(image.getbands()), "uint16" if deep else "uint8", reason


def _number(text: object, path: str) -> float:
    try:
        return float(str(text).strip().rstrip("\0"))
    except ValueError as error:
        raise ValueError(
            f"image {path!r} says that {text!r} means no data, which is no number: correct its tag "
            "GDAL_NODATA"
        ) from error
