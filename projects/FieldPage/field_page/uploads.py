"""Uploaded pictures: checked, decoded and held in memory, with their fields."""

import io
import secrets
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from page_limits import MOST_MEGAPIXELS, Limits
from PIL import Image

from ifa_d2.data.pictures import decode, refusal
from ifa_d2.modeling import SegmentationField

# What browsers show, by Pillow's names and the media types of uploads.
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "BMP": "image/bmp"}

# Of pictures and answers, in pixels and samples. What is many times longer than wide takes many
# times longer to answer, as each row and each column costs as much as many samples.
MAX_SIDE = 65535


class UploadError(ValueError):
    """A file that is not taken; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def decode_upload(data: bytes, limits: Limits) -> np.ndarray:
    """The picture in a file, (H, W, 3) uint8 RGB, the right way up.

    Its size is checked before its pixels are decoded.

    Raises:
        UploadError: the file is too large, of another type than browsers show, damaged, of too
            many pixels in all or a side, or of more than 8 bits a channel.
    """
    if len(data) > limits.max_bytes:
        raise UploadError(413, f"the file must have at most {limits.megabytes:g} MiB")
    try:
        image = Image.open(io.BytesIO(data), formats=list(FORMATS))
    except Image.DecompressionBombError as error:
        raise _too_large(limits, f"more than {MOST_MEGAPIXELS} megapixels") from error
    except Exception as error:  # Pillow raises anything from SyntaxError to struct.error
        allowed = ", ".join(FORMATS)
        raise UploadError(415, f"the file must be a picture ({allowed}), this is none") from error
    with image:
        width, height = image.size
        if width * height > limits.max_pixels:
            raise _too_large(limits, f"{width} x {height} pixels")
        if max(width, height) > MAX_SIDE:
            raise UploadError(
                413,
                f"the picture must have at most {MAX_SIDE} pixels a side, it is {width} x {height}",
            )
        if reason := refusal(image):
            raise UploadError(
                415, f"the picture {reason}: it must have 8 bits a channel and colours or grey"
            )
        try:
            return decode(image)
        except Exception as error:
            raise UploadError(415, "the picture's file is damaged or cut off") from error


def check_picture(path: Path, limits: Limits) -> None:
    """Raise an error that names the file if the page could not open it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: what :func:`decode_upload` refuses.
    """
    try:
        decode_upload(path.read_bytes(), limits)
    except UploadError as error:
        raise ValueError(f"picture {path} cannot be opened: {error}") from error


def _too_large(limits: Limits, size: str) -> UploadError:
    most = f"{limits.megapixels:g} megapixels (of 2^20)"
    return UploadError(413, f"the picture must have at most {most}, it has {size}")


class PictureStore:
    """The fields of the pictures used last, under keys that cannot be guessed.

    Args:
        capacity: how many are held.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._fields: OrderedDict[str, SegmentationField] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._fields)

    def add(self, field: SegmentationField) -> str:
        """Hold a field; gives its key."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._fields[key] = field
            while len(self._fields) > self.capacity:
                self._fields.popitem(last=False)
        return key

    def get(self, key: str) -> SegmentationField | None:
        """The field under a key, if it is still held."""
        with self._lock:
            if key in self._fields:
                self._fields.move_to_end(key)
            return self._fields.get(key)

    def remove(self, key: str) -> None:
        """Forget a field, if it is held."""
        with self._lock:
            self._fields.pop(key, None)
