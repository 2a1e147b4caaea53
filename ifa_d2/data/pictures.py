"""Reader of picture files, for training, checks, prediction, serving and drawing.

A file is decoded whole before its use, so that all damage that Pillow detects is reported: a file
that is cut off, and most flipped bits of a PNG. A flipped bit of a JPEG or of raw
pixels often decodes to other pixels, which no reader can know. ``strict`` also compares the
checksums that PNG files have.

Files that would be read wrongly are refused by their headers: those of more than 8 bits a channel
or of signed values, which Pillow cuts off; of more bands than colours have; and of several pages,
of which it reads the first.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tifffile
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps, UnidentifiedImageError

# Formats whose headers tell what Pillow would cut off.
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
# 8-bit grey, palette and colours; transparency is dropped.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
ALLOWED = (
    "allowed are 8-bit pictures of one band (grey or with a palette) or three (colours), or CMYK, "
    f"with or without transparency, as {', '.join(FORMATS)}"
)
_TURNING = range(5, 9)  # values of the orientation tag that swap height and width
_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_SUBFILE, _BITS, _SAMPLES, _EXTRA, _SAMPLE_FORMAT = 254, 258, 277, 338, 339
_ALPHA = (1, 2)  # of the tag _EXTRA
_REDUCED_OR_MASK = 0b101  # bits of the tag _SUBFILE: no page of its own
_KINDS = {1: "uint", 2: "int", 3: "float"}  # of the tag _SAMPLE_FORMAT


def read_picture(
    path: str | os.PathLike[str], channel_order: str = "RGB", *, strict: bool = False
) -> np.ndarray:
    """Read a picture's colours, turned by its orientation tag.

    Args:
        path: a file, or an address that Detectron2's ``PathManager`` knows.
        channel_order: "RGB" or "BGR".
        strict: also compare a PNG's checksums.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no picture, has more than 8 bits a channel or more bands
            than colours have, several pages, or too many pixels.
    """
    path = os.fspath(path)
    with opened(path, "image") as image:
        if strict:
            verify(path)
        _refuse(image, path)
        pixels = decode(image)
    return np.ascontiguousarray(pixels[:, :, ::-1] if channel_order == "BGR" else pixels)


def decode(image: Image.Image) -> np.ndarray:
    """Decode an opened file that :func:`refusal` has nothing against, (H, W, 3) uint8 RGB."""
    image.load()
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read (height, width) as :func:`read_picture` returns it; pixels are not decoded.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_picture`, as far as the file's header tells.
    """
    path = os.fspath(path)
    with opened(path, "image") as image:
        _refuse(image, path)
        width, height = image.size
        # Pillow has turned the size of a TIFF; for the tag of a PNG that has none in front of its
        # pixels, it would decode these.
        known = image.format not in ("PNG", "TIFF") or "exif" in image.info
        turned = known and image.getexif().get(_ORIENTATION, 1) in _TURNING
    return (width, height) if turned else (height, width)


def _refuse(image: Image.Image, path: str) -> None:
    if reason := refusal(image):
        raise ValueError(f"image {path!r} {reason}: {ALLOWED}; convert it first")


@contextmanager
def opened(path: str, kind: str) -> Iterator[Image.Image]:
    """Open a file; any error becomes a ValueError that names it.

    Args:
        path: see :func:`read_picture`.
        kind: "image" or "label", for the error.
    """
    local = PathManager.get_local_path(path)
    if os.path.exists(local) and not stat.S_ISREG(os.stat(local).st_mode):
        raise ValueError(f"cannot read the {kind} {path!r}: it is no regular file")
    try:
        with open(local, "rb") as file, Image.open(file) as image:
            yield image
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
        raise ValueError(
            f"cannot read the {kind} {path!r}: it has more than {most}; cut it into tiles first"
        ) from error
    except ValueError as error:
        if path in str(error):
            raise
        raise _unreadable(kind, path, error) from error
    except Exception as error:  # Pillow raises anything from SyntaxError to zlib.error
        raise _unreadable(kind, path, error) from error


def _unreadable(kind: str, path: str, error: Exception) -> ValueError:
    if isinstance(error, UnidentifiedImageError) and (layout := _tiff_layout(path)):
        return ValueError(f"{kind} {path!r} has {layout}: {ALLOWED}; convert it first")
    return ValueError(f"cannot read the {kind} {path!r}: {plain_reason(error, path)}")


def _tiff_layout(path: str) -> str:
    """Describe a TIFF that Pillow cannot open; "" of another file."""
    try:
        with tifffile.TiffFile(PathManager.get_local_path(path)) as file:
            page = file.pages[0]
            layout = _bands(page.samplesperpixel, str(page.dtype))
            return f"{layout} (photometric {getattr(page.photometric, 'name', page.photometric)})"
    except Exception:  # tifffile, too, raises anything of a file that is none
        return ""


def plain_reason(error: Exception, path: str) -> str:
    """Text of an error about a file, without the file's name."""
    text = str(error).replace(f" <_io.BufferedReader name={path!r}>", "")
    return text.replace(f" {path!r}", "").rstrip(":")


def verify(path: str) -> None:
    """Verify a file's checksums; errors are Pillow's own.

    The file is opened anew: Pillow cannot decode an image after it was verified.
    """
    with open(PathManager.get_local_path(path), "rb") as file, Image.open(file) as image:
        image.verify()


def refusal(image: Image.Image) -> str:
    """Explain why an opened file's pixels would be read changed; "" if they would not.

    Pixels are not decoded.
    """
    if image.format not in FORMATS:
        return f"is of the format {image.format}"
    if (pages := page_count(image)) > 1:
        return f"holds {pages} pictures (pages or frames)"
    dtype = pixel_type(image)
    tags = getattr(image, "tag_v2", {})
    bands = tags.get(_SAMPLES, len(image.getbands()))
    unknown = [value for value in tags.get(_EXTRA, ()) if value not in _ALPHA]
    most = 5 if image.mode == "CMYK" else 4
    if image.mode not in _MODES or dtype != "uint8" or unknown or bands > most:
        return f"has {_bands(bands, dtype)} (mode {image.mode})"
    return ""


def _bands(count: int, dtype: str) -> str:
    return f"{count} band{'s' * (count > 1)} of {dtype}"


def page_count(image: Image.Image) -> int:
    """Count the pictures in an opened file, without previews, masks and reduced copies."""
    if image.format not in ("GIF", "PNG", "TIFF", "WEBP"):
        return 1  # an MPO's others are previews and depths
    count = getattr(image, "n_frames", 1)
    if image.format == "TIFF" and count > 1:
        pages = 0
        for index in range(count):
            image.seek(index)
            pages += not image.tag_v2.get(_SUBFILE, 0) & _REDUCED_OR_MASK
        image.seek(0)
        return pages
    return count


def stored_maximum(image: Image.Image) -> tuple[int, int]:
    """Largest value that an opened grey file can hold, and the one that Pillow makes of it.

    They differ for files of fewer than 8 bits a pixel and PGM files of any maximum: Pillow spreads
    their values over its own range.
    """
    if image.format == "PPM":
        top = 255 if image.mode == "L" else 65535
        arguments = image.tile[0][3]
        return (top if isinstance(arguments, str) else arguments[1]), top
    if image.mode != "L":
        return 65535, 65535
    return 2 ** min(8, *_bits(image)) - 1, 255


def pixel_type(image: Image.Image) -> str:
    """Type of a channel in an opened file, as NumPy names it; "uint8" of fewer bits too."""
    if image.format == "PPM" and image.mode != "F":
        arguments = image.tile[0][3]
        deep = arguments == "I;16B" if isinstance(arguments, str) else arguments[1] > 255
        return "uint16" if deep else "uint8"
    if image.format not in ("PNG", "TIFF"):
        return {"F": "float32", "I": "int32"}.get(image.mode, "uint8")
    kinds = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (1,))
    kind = _KINDS.get(max(kinds) if isinstance(kinds, tuple) else kinds, "other")
    return f"{kind}{max(8, *_bits(image))}"


def _bits(image: Image.Image) -> tuple[int, ...]:
    """Bits of each channel in a PNG or TIFF, for modes of Pillow that do not tell."""
    if image.format == "PNG" and image.tile:
        raw = image.tile[0][3]
        raw = raw if isinstance(raw, str) else raw[0]
        deep = raw.partition(";")[2].rstrip("B")
        return (int(deep) if deep.isdigit() else 8,)
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, (1,))
        return tuple(bits) if isinstance(bits, tuple) else (bits,)
    return (8,)
