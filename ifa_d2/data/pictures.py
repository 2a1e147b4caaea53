"""Reader of picture files, for training, checks, prediction and drawing.

A file is decoded whole before its use, so that all damage that Pillow detects is reported: a file
that is cut off, and most flipped bits of a PNG. A flipped bit of a JPEG or of raw
pixels often decodes to other pixels, which no reader can know. ``strict`` also compares the
checksums that PNG files have.

Files that would be read wrongly are refused: those of more than 8 bits a channel, which Pillow cuts
off, and of more bands than colours have.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps

# 8-bit grey, palette and colours; transparency is dropped.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_TURNING = range(5, 9)  # values of the orientation tag that swap height and width
_ORIENTATION, _BITS, _SAMPLES, _EXTRA = 0x0112, 258, 277, 338  # tags of EXIF and TIFF
_ALPHA = (1, 2)  # of the tag _EXTRA


def read_picture(path: str, channel_order: str = "RGB", *, strict: bool = False) -> np.ndarray:
    """Read a picture, turned by its orientation tag.

    Args:
        path: a file, or an address that Detectron2's ``PathManager`` knows.
        channel_order: "RGB" or "BGR".
        strict: also compare a PNG's checksums.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is no picture, has more than 8 bits a channel or more bands
            than colours have, or too many pixels.
    """
    with opened(path, "image") as image:
        if strict:
            verify(path)
        reason = refusal(image)
        if reason:
            raise ValueError(
                f"image {path!r} {reason}: it must have 8 bits a channel and one band (grey or "
                "with a palette) or three, with or without transparency; convert it first"
            )
        image.load()
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return np.ascontiguousarray(pixels[:, :, ::-1] if channel_order == "BGR" else pixels)


def picture_size(path: str) -> tuple[int, int]:
    """Read (height, width) as :func:`read_picture` returns it; pixels are not decoded.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_picture`, as far as the file's header tells.
    """
    with opened(path, "image") as image:
        width, height = image.size
        # Pillow has turned the size of a TIFF; for the tag of a PNG that has none in front of its
        # pixels, it would decode these.
        known = image.format not in ("PNG", "TIFF") or "exif" in image.info
        turned = known and image.getexif().get(_ORIENTATION, 1) in _TURNING
    return (width, height) if turned else (height, width)


def grey_bits(image: Image.Image) -> int:
    """Bits a pixel of an opened grey file; Pillow scales values of fewer than 8 bits."""
    if image.format == "PNG":
        rawmode = image.tile[0][3] if image.tile else ""
        rawmode = rawmode if isinstance(rawmode, str) else rawmode[0]
        return int(rawmode.partition(";")[2] or 8) if rawmode.startswith("L") else 8
    return min(_bits(image))


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
    return ValueError(f"cannot read the {kind} {path!r}: {plain_reason(error, path)}")


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
    if image.mode not in _MODES:
        return f"has pixels of mode {image.mode}"
    if (bits := max(_bits(image))) > 8:
        return f"has {bits} bits a channel"
    tags = getattr(image, "tag_v2", {})
    samples = tags.get(_SAMPLES, 1)
    extra = [value for value in tags.get(_EXTRA, ()) if value not in _ALPHA]
    if image.mode != "CMYK" and (samples > 4 or (samples > 3 and extra)):
        return f"has {samples} bands"
    return ""


def _bits(image: Image.Image) -> tuple[int, ...]:
    """Bits of each channel in the file, for modes of Pillow that do not tell."""
    if image.format == "PNG" and image.tile:
        raw = image.tile[0][3]
        raw = raw if isinstance(raw, str) else raw[0]
        return (16,) if ";16" in raw else (8,)
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, (1,))
        return tuple(bits) if isinstance(bits, tuple) else (bits,)
    return (8,)
