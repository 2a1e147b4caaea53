"""Pictures of bands as pictures to look at."""

import numpy as np

_CUT = (2, 98)  # percentiles that become black and white


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert a picture to one to look at.

    Args:
        image: (H, W, 3) uint8 RGB, which is returned as it is; or (H, W, C) float32 bands, NaN
            where there is no data.

    Returns:
        (H, W, 3) uint8. The first three bands, or the first alone in grey, each stretched from its
        2nd to its 98th percentile; black where there is no data.
    """
    if image.dtype == np.uint8:
        return image
    bands = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1].repeat(3, axis=2)
    known = bands[~np.isnan(bands[:, :, 0])]
    if not len(known):
        return np.zeros(bands.shape, np.uint8)
    low, high = np.percentile(known, _CUT, axis=0)
    stretched = (bands - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    return np.rint(255 * np.nan_to_num(stretched).clip(0, 1)).astype(np.uint8)
