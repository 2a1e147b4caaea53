"""Parts of Detectron2's Panoptic-DeepLab."""

from collections.abc import Mapping, Sequence
from typing import Any

import ifa_d2.compat  # noqa: F401 (first: panopticapi, which they import, need not be installed)

# isort: split
from detectron2.config import instantiate
from detectron2.data import get_detection_dataset_dicts
from detectron2.layers import ShapeSpec
from detectron2.projects.panoptic_deeplab import PanopticDeepLab
from detectron2.projects.panoptic_deeplab.dataset_mapper import (
    PanopticDeeplabDatasetMapper,
)
from detectron2.projects.panoptic_deeplab.panoptic_seg import (
    PanopticDeepLabInsEmbedHead,
)
from detectron2.projects.panoptic_deeplab.post_processing import (
    find_instance_center,
    get_panoptic_segmentation,
    group_pixels,
)
from detectron2.projects.panoptic_deeplab.target_generator import (
    PanopticDeepLabTargetGenerator,
)


def panoptic_records(names: str) -> list[dict[str, Any]]:
    """List the records of a panoptic data set.

    Raises:
        FileNotFoundError: it is not there or not prepared, which Detectron2 asserts.
    """
    try:
        return get_detection_dataset_dicts(names, filter_empty=False)
    except AssertionError as error:
        raise FileNotFoundError(f"data set {names!r} is not whole: {error}") from error


def build_instance_head(
    *,
    input_shape: Mapping[str, ShapeSpec],
    in_features: Sequence[str],
    project_channels: Sequence[int],
    decoder_channels: Sequence[int],
    aspp_dilations: Sequence[int],
    **options: Any,
) -> PanopticDeepLabInsEmbedHead:
    """Detectron2's instance head, in a LazyConfig: the class takes a node for a yacs config.

    Args:
        input_shape: of features, more than ``in_features`` as well.
        in_features: of these, the names of those that are decoded.
        project_channels, decoder_channels, aspp_dilations: of the head, as lists.
        options: more arguments of the head.

    Raises:
        ValueError: a feature that is not there.
    """
    if missing := [name for name in in_features if name not in input_shape]:
        raise ValueError(f"in_features must be of {sorted(input_shape)}, got {missing}")
    return PanopticDeepLabInsEmbedHead(
        {name: instantiate(input_shape[name]) for name in in_features},
        project_channels=list(project_channels),
        decoder_channels=list(decoder_channels),
        aspp_dilations=list(aspp_dilations),
        **options,
    )


__all__ = [
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabTargetGenerator",
    "PanopticDeeplabDatasetMapper",
    "build_instance_head",
    "find_instance_center",
    "get_panoptic_segmentation",
    "group_pixels",
    "panoptic_records",
]
