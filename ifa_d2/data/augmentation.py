"""Random augmentations for semantic segmentation, built from Detectron2's."""

import sys
from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T

_JITTER = 0.4  # brightness, contrast and saturation vary by this share
FLIPS = ("horizontal", "vertical", "none")
SCALE_LAWS = ("uniform", "balanced")


def build_sem_seg_augmentations(
    *,
    short_edge: int | Sequence[int] | None,
    scale_range: Sequence[float] | None = (0.5, 2.0),
    scale_law: str = "uniform",
    crop_size: Sequence[float] | None = None,
    crop_type: str = "absolute",
    single_category_max_area: float = 1.0,
    max_size: int | None = None,
    flip: str = "horizontal",
    color_jitter: bool = True,
    pad_value: float = 116.0,
    ignore_value: int = 255,
    before_crop: Sequence[T.Augmentation] = (),
) -> list[T.Augmentation]:
    """Build random scale, crop with padding, flip and colour jitter.

    All draw from numpy's random state, which Detectron2 seeds in each worker.

    Args:
        short_edge: the length in pixels of the image's shorter edge at scale 1; None leaves the
            image its own size there
        scale_range: smallest and largest scale; None takes `short_edge` as it is, or one of several
            at random
        scale_law: how a scale is drawn from its range. "uniform"; or "balanced", below 1 as often
            as above and uniformly on either side, as the paper's authors do.
        crop_size: (height, width) of the crop, in pixels for `crop_type` "absolute"; None for
            no crop
        crop_type: as Detectron2's RandomCrop. Only "absolute" pads smaller images to the crop.
        single_category_max_area: look for a crop in which no class covers more than this share
        max_size: bound of the longer edge in pixels, None for none
        flip: "horizontal", "vertical" or "none", with probability 1/2
        color_jitter: vary brightness, contrast and saturation, each by up to 40 %
        pad_value: padding of the image, at the bottom and the right
        ignore_value: padding of the label, at the bottom and the right
        before_crop: further augmentations of Detectron2, between the scale and the crop

    Raises:
        ValueError: an argument out of its range, by name.
    """
    if flip not in FLIPS:
        raise ValueError(f"flip must be one of {FLIPS}, got {flip!r}")
    if scale_law not in SCALE_LAWS:
        raise ValueError(f"scale_law must be one of {SCALE_LAWS}, got {scale_law!r}")
    augmentations = _build_resize(short_edge, scale_range, scale_law, max_size)
    augmentations.extend(before_crop)
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


class RandomScale(T.Augmentation):
    """Resize the shorter edge to a random scale of a given length.

    Args:
        short_edge: length in pixels of the shorter edge at scale 1; None is the image's own.
        low, high: smallest and largest scale.
        law: one of :data:`SCALE_LAWS`.
        max_size: bound of the longer edge in pixels.
    """

    def __init__(
        self, short_edge: int | None, low: float, high: float, law: str, max_size: int
    ) -> None:
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw the resize of a (H, W, C) image."""
        height, width = image.shape[:2]
        low, high = self.low, self.high
        if self.law == "balanced":
            low, high = (low, 1.0) if self._rand_range() < 0.5 else (1.0, high)
        scale = self._rand_range(low, high)
        if self.short_edge is not None:
            scale *= self.short_edge / min(height, width)
        scale = min(scale, self.max_size / max(height, width))
        size = (max(1, round(length * scale)) for length in (height, width))
        return T.ResizeTransform(height, width, *size)


def _build_resize(
    short_edge: int | Sequence[int] | None,
    scale_range: Sequence[float] | None,
    scale_law: str,
    max_size: int | None,
) -> list[T.Augmentation]:
    edges = (short_edge,) if short_edge is None or isinstance(short_edge, int) else short_edge
    edges = tuple(edges)
    if not edges or any(edge is not None and edge < 1 for edge in edges):
        raise ValueError(f"short_edge must be at least 1, got {short_edge}")
    bound = sys.maxsize if max_size is None else max_size
    if scale_range is None:
        return [] if short_edge is None else [T.ResizeShortestEdge(edges, bound, "choice")]
    if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
        raise ValueError(f"scale_range must be 0 < low <= high, got {tuple(scale_range)}")
    if scale_law == "balanced" and not scale_range[0] <= 1 <= scale_range[1]:
        raise ValueError(f"scale_range must hold 1 for a balanced law, got {tuple(scale_range)}")
    if len(edges) != 1:
        raise ValueError(
            f"short_edge must be one length when scale_range is given, got {edges}: "
            "set scale_range to None to choose among several"
        )
    if short_edge is None or scale_law != "uniform":
        return [RandomScale(edges[0], *scale_range, scale_law, bound)]
    low, high = (max(1, round(scale * edges[0])) for scale in scale_range)
    return [T.ResizeShortestEdge((low, high), bound, "range")]
