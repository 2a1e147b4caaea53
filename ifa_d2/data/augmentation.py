"""The random augmentations that segmentation models are trained with, from Detectron2's parts."""

import sys
from collections.abc import Sequence

from detectron2.data import transforms as T

_JITTER = 0.4  # brightness, contrast and saturation vary by this share
FLIPS = ("horizontal", "vertical", "none")


def build_sem_seg_augmentations(
    *,
    short_edge: int | Sequence[int],
    scale_range: Sequence[float] | None = (0.5, 2.0),
    crop_size: Sequence[float] | None = None,
    crop_type: str = "absolute",
    single_category_max_area: float = 1.0,
    max_size: int | None = None,
    flip: str = "horizontal",
    color_jitter: bool = True,
    pad_value: float = 116.0,
    ignore_value: int = 255,
) -> list[T.Augmentation]:
    """Random scale, crop, flip and colour jitter; what a crop lacks is padded.

    All draw from numpy's random state, which Detectron2 seeds in each worker.

    Args:
        short_edge: the length in pixels of the image's shorter edge at scale 1
        scale_range: smallest and largest scale, drawn uniformly; None takes `short_edge` as it is,
            or one of several at random
        crop_size: (height, width) of the crop, in pixels for `crop_type` "absolute"; None for
            no crop
        crop_type: as Detectron2's RandomCrop. Only "absolute" pads smaller images to the crop.
        single_category_max_area: look for a crop in which no class covers more than this share
        max_size: bound of the longer edge in pixels, None for none
        flip: "horizontal", "vertical" or "none", with probability 1/2
        color_jitter: vary brightness, contrast and saturation, each by up to 40 %
        pad_value: of the image, at the bottom and the right
        ignore_value: of the label, same

    Raises:
        ValueError: an argument out of its range, by name.
    """
    if flip not in FLIPS:
        raise ValueError(f"flip must be one of {FLIPS}, got {flip!r}")
    augmentations = [_build_resize(short_edge, scale_range, max_size)]
    if crop_size is not None:
        crop_size = tuple(crop_size)
        if len(crop_size) != 2 or min(crop_size) <= 0:
            raise ValueError(f"crop_size must be (height, width) above 0, got {crop_size}")
        if single_category_max_area < 1:
            crop = T.RandomCrop_CategoryAreaConstraint(
                crop_type, crop_size, single_category_max_area, ignore_value
            )
        else:
            crop = T.RandomCrop(crop_type, crop_size)
        augmentations.append(crop)
    if color_jitter:  # after the crop, as cheaper, and before the padding, which keeps its value
        colors = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation)
        augmentations += [vary(1 - _JITTER, 1 + _JITTER) for vary in colors]
    if crop_size is not None and crop_type == "absolute":
        # FixedSizeCrop pads here and never crops: its crops lie on a diagonal.
        pad = T.FixedSizeCrop(crop_size, pad_value=pad_value, seg_pad_value=ignore_value)
        augmentations.append(pad)
    if flip != "none":
        vertical = flip == "vertical"
        augmentations.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    return augmentations


def _build_resize(
    short_edge: int | Sequence[int], scale_range: Sequence[float] | None, max_size: int | None
) -> T.ResizeShortestEdge:
    edges = (short_edge,) if isinstance(short_edge, int) else tuple(short_edge)
    if not edges or min(edges) < 1:
        raise ValueError(f"short_edge must be at least 1, got {short_edge}")
    bound = sys.maxsize if max_size is None else max_size
    if scale_range is None:
        return T.ResizeShortestEdge(edges, bound, "choice")
    if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
        raise ValueError(f"scale_range must be 0 < low <= high, got {tuple(scale_range)}")
    if len(edges) != 1:
        raise ValueError(
            f"short_edge must be one length when scale_range is given, got {edges}: "
            "set scale_range to None to choose among several"
        )
    low, high = (max(1, round(scale * edges[0])) for scale in scale_range)
    return T.ResizeShortestEdge((low, high), bound, "range")
