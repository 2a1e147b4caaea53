"""Parts of Detectron2's Panoptic-DeepLab, also where panopticapi is not installed.

Detectron2 imports one function of it, which decodes panoptic pictures; the package has the same.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from detectron2.config import instantiate
from detectron2.data import get_detection_dataset_dicts
from detectron2.layers import ShapeSpec

from ifa_d2.data.panoptic_mapper import segment_ids

_DECODER = "panopticapi.utils"
if find_spec("panopticapi") is None and "detectron2.projects.panoptic_deeplab" not in sys.modules:
    sys.modules[_DECODER] = ModuleType(_DECODER)
    sys.modules[_DECODER].rgb2id = segment_ids
    try:
        importlib.import_module("detectron2.projects.panoptic_deeplab")
    finally:
        del sys.modules[_DECODER]

from detectron2.projects.panoptic_deeplab import PanopticDeepLab  # noqa: E402
from detectron2.projects.panoptic_deeplab.dataset_mapper import (  # noqa: E402
    PanopticDeeplabDatasetMapper,
)
from detectron2.projects.panoptic_deeplab.panoptic_seg import (  # noqa: E402
    PanopticDeepLabInsEmbedHead,
)
from detectron2.projects.panoptic_deeplab.post_processing import (  # noqa: E402
    find_instance_center,
    get_panoptic_segmentation,
    group_pixels,
)
from detectron2.projects.panoptic_deeplab.target_generator import (  # noqa: E402
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
