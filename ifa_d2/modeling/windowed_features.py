"""Features of pictures too large for a backbone at once, window by window.

At an edge within the picture a window has a margin, where the backbone sees an edge that the
picture does not have; features there are left out for those of the next window. Features that see
no further than the margin are those of the whole picture.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

# Pixels of a batch that go through a backbone at once: those of a picture in 4K, and no more.
MAX_PIXELS = 1 << 23
# Side of a window and its margin, in pixels.
WINDOW, MARGIN = 2048, 256


def windowed_features(
    compute: Callable[[Tensor], Mapping[str, Tensor]],
    images: Tensor,
    strides: Mapping[str, int],
    *,
    window: int = WINDOW,
    margin: int = MARGIN,
) -> dict[str, Tensor]:
    """Compute features of images in overlapping windows.

    Args:
        compute: from images (B, C, h, w) to features (B, C', h / stride, w / stride) each.
        images: (B, C, H, W), of sides that are multiples of all strides.
        strides: of the features that are wanted, in pixels.
        window: longest side of a window, rounded up to a multiple of all strides.
        margin: see this module; rounded up alike.

    Raises:
        ValueError: margins that leave nothing of a window, features of another size than their
            stride says, or features that the device's memory does not hold.
    """
    divisor = math.lcm(*strides.values())
    window, margin = (-(-value // divisor) * divisor for value in (window, margin))
    if window <= 2 * margin:
        raise ValueError(f"window must be more than two margins of {margin}, got {window}")
    out: dict[str, Tensor] = {}
    axes = [list(_windows(side, window, margin, divisor)) for side in images.shape[2:]]
    for (rows, kept_rows), (cols, kept_cols) in product(*axes):
        features = compute(images[:, :, rows, cols])
        parts = {name: features[name] for name in strides}
        del features  # what is not wanted
        out = out or _empty(parts, images, strides)
        for name, stride in strides.items():
            part = parts.pop(name)
            size = tuple((side.stop - side.start) // stride for side in (rows, cols))
            if tuple(part.shape[2:]) != size:
                raise ValueError(
                    f"feature {name!r} of stride {stride} must be of {size} cells in a window, got "
                    f"{tuple(part.shape[2:])}"
                )
            whole = _cells(kept_rows, 0, stride), _cells(kept_cols, 0, stride)
            kept = _cells(kept_rows, rows.start, stride), _cells(kept_cols, cols.start, stride)
            out[name][:, :, whole[0], whole[1]] = part[:, :, kept[0], kept[1]]
    return out


def _windows(
    side: int, window: int, margin: int, divisor: int = 1
) -> Iterator[tuple[slice, slice]]:
    """Yield windows along a side, and what is kept of each; these cover the side once.

    There are as few as can be, of about one length; all begin at multiples of the divisor.
    """
    inner = side - 2 * margin
    count = max(1, -(-inner // (window - 2 * margin)))
    step = divisor * -(-inner // (count * divisor))
    count = max(1, -(-inner // step)) if step > 0 else 1
    for i in range(count):
        start, end = i * step, side if i == count - 1 else (i + 1) * step + 2 * margin
        kept = slice(start + margin * (i > 0), end - margin * (i < count - 1))
        yield slice(start, end), kept


def _cells(pixels: slice, start: int, stride: int) -> slice:
    """Pixels as cells, counted from a pixel."""
    return slice((pixels.start - start) // stride, (pixels.stop - start) // stride)


def _empty(
    parts: Mapping[str, Tensor], images: Tensor, strides: Mapping[str, int]
) -> dict[str, Tensor]:
    """Make room for the features of whole images, of those of a part."""
    height, width = images.shape[2:]
    shapes = {
        name: (*part.shape[:2], height // strides[name], width // strides[name])
        for name, part in parts.items()
    }
    needed = sum(math.prod(shapes[name]) * part.itemsize for name, part in parts.items())
    there = _memory(images.device)
    if needed > there:
        raise ValueError(
            f"features of a picture of {height} x {width} pixels take {needed / 2**30:.1f} GiB, "
            f"more than the {there / 2**30:.1f} GiB of memory: tools/segment_raster.py, or "
            "averaged_labels with a window, predicts it part by part"
        )
    return {
        name: torch.empty(
            shapes[name],
            dtype=part.dtype,
            device=part.device,
            memory_format=torch.channels_last,
        )
        for name, part in parts.items()
    }


def _memory(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
