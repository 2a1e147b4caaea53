"""Metadata of an exported file: classes, colours, normalisation and channel order."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..data.bands import BANDS

if TYPE_CHECKING:
    from .predictor import Predictor

METADATA_FILE = "metadata.json"  # of a TorchScript or torch.export archive
_NORMALIZATION = (
    "part of the program: (image - pixel_mean) / pixel_std, channel by channel, of values of 0 to "
    "255"
)
_OF_BANDS = (
    "part of the program: (image - pixel_mean) / pixel_std, band by band, of values as files have "
    "them; 0 in all bands where one is not finite or is nodata"
)


def model_metadata(predictor: "Predictor") -> dict[str, Any]:
    """Describe a model for those who run it elsewhere.

    Args:
        predictor: of the model.

    Returns:
        ``channel_order`` ("RGB", "BGR" or "bands") of the input; ``pixel_mean`` and ``pixel_std``
        in that order, and ``normalization``, which says that the program applies them;
        ``ignore_value``, the value of labels in training where a pixel has no class;
        ``temperature``, which the program has divided its logits by; and of bands ``nodata``, if a
        value means that there are no data. Where the predictor has metadata also ``classes``, the
        names in the order of the logits, and ``colors``, their (R, G, B) of 0 to 255.
    """
    model = predictor.model
    described: dict[str, Any] = {
        "channel_order": predictor.image_format,
        "normalization": _OF_BANDS if predictor.image_format == BANDS else _NORMALIZATION,
        "pixel_mean": _floats(model.pixel_mean),
        "pixel_std": _floats(model.pixel_std),
        "ignore_value": int(model.sem_seg_head.ignore_value),
        "temperature": model.sem_seg_head.temperature,
    }
    if predictor.nodata is not None:
        described["nodata"] = predictor.nodata
    if predictor.metadata is not None:
        described["classes"] = list(predictor.class_names)
        colors = predictor.metadata.get("stuff_colors")
        if colors:
            described["colors"] = [[int(part) for part in color] for color in colors]
    return described


def onnx_properties(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Write metadata as ONNX's, of strings alone: strings as they are, all else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }


def archive_files(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Write metadata as the extra files of an archive of torch, one JSON object."""
    return {METADATA_FILE: json.dumps(metadata, ensure_ascii=False, indent=1)}


def _floats(values: Tensor) -> list[float]:
    """Numbers as they were written, not with the digits that float32 does not have."""
    return [float(str(value)) for value in values.flatten().float().cpu().numpy()]
