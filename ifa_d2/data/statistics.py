"""Mean and standard deviation of a data set's pictures, by channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bands import read_record_bands
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


def pixel_statistics(
    name: str, *, workers: int = 1, nodata: float | None = None
) -> PixelStatistics:
    """Compute the mean and the standard deviation of all pictures, one file at a time.

    Args:
        name: a registered data set.
        workers: processes.
        nodata: of pictures of bands, the value that means no data, in place of the one that the
            data set is registered with; None takes that.

    Raises:
        ValueError: no such data set, a file that cannot be read, no pixel with data, or ``nodata``
            of pictures in colours.
    """
    check_name(name, "name")
    records = [one for one in list_records(name) if one.get("file_name")]
    has_bands = bool(records) and records[0].get("bands") is not None
    if nodata is not None:
        if not has_bands:
            raise ValueError(f"nodata {nodata} is of bands, but {name!r} is registered without")
        records = [{**one, "nodata": nodata} for one in records]
    count, total, mean, squares = 0, 0, 0.0, 0.0
    for pixels, own_mean, own_squares, missing in run_parallel(
        _measure, records, workers=workers, description=name
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
    return PixelStatistics(mean, np.sqrt(squares / count), count, total, has_bands)


def _measure(record: Mapping[str, Any]) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Pixels with data, their mean and sum of squared deviations, and pixels without."""
    in_colours = record.get("bands") is None
    image = read_picture(record["file_name"]) if in_colours else read_record_bands(record)
    values = image.reshape(-1, image.shape[2]).astype(np.float64)
    known = values[~np.isnan(values[:, 0])]
    if not len(known):
        return 0, np.zeros(1), np.zeros(1), len(values)
    mean = known.mean(axis=0)
    return len(known), mean, ((known - mean) ** 2).sum(axis=0), len(values) - len(known)
