"""Mean and standard deviation of a data set's pictures, by channel."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from .bands import read_bands
from .catalog import check_name, list_records
from .parallel import run_parallel
from .pictures import read_picture


@dataclass(frozen=True)
class PixelStatistics:
    """Moments of pixels that have data.

    Fields:
        mean, std: (C,) in the values of the files; RGB, or bands in their order
        pixels: that have data, of all pictures
        without_data: the others
        has_bands: the pictures are of bands
    """

    mean: np.ndarray
    std: np.ndarray
    pixels: int
    without_data: int
    has_bands: bool


def pixel_statistics(name: str, *, workers: int = 1) -> PixelStatistics:
    """Compute the mean and the standard deviation of all pictures, one file at a time.

    Args:
        name: a registered data set.
        workers: processes.

    Raises:
        ValueError: no such data set, a file that cannot be read, or no pixel with data.
    """
    check_name(name, "name")
    records = [one for one in list_records(name) if one.get("file_name")]
    count, bands = 0, records[0].get("bands") if records else None
    total, mean, squares = 0, 0.0, 0.0
    paths = [one["file_name"] for one in records]
    measure = partial(_measure, bands=bands)
    for pixels, own_mean, own_squares, missing in run_parallel(
        measure, paths, workers=workers, description=name
    ):
        total += missing
        if not pixels:
            continue
        # Chan et al., Algorithms for Computing the Sample Variance, 1983: parts are put together.
        step = own_mean - mean
        squares = squares + own_squares + step**2 * (count * pixels / (count + pixels))
        mean = mean + step * (pixels / (count + pixels))
        count += pixels
    if not count:
        raise ValueError(f"data set {name!r} has no pixel with data")
    return PixelStatistics(mean, np.sqrt(squares / count), count, total, bands is not None)


def _measure(path: str, bands: int | None) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Pixels with data, their mean and sum of squared deviations, and pixels without."""
    image = read_picture(path) if bands is None else read_bands(path, bands)
    values = image.reshape(-1, image.shape[2]).astype(np.float64)
    known = values[~np.isnan(values[:, 0])]
    if not len(known):
        return 0, np.zeros(1), np.zeros(1), len(values)
    mean = known.mean(axis=0)
    return len(known), mean, ((known - mean) ** 2).sum(axis=0), len(values) - len(known)
