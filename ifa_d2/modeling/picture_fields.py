"""Fields of pictures: what a model makes of a batch."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..fields import SegmentationField, check_eval
from .windowed_features import MAX_PIXELS, windowed_features


def padding_divisor(model: nn.Module) -> int:
    """Return the number of pixels that sides of padded images are multiples of.

    It suits the backbone, and lets all features of the field cover the same pixels.
    """
    own = getattr(model.backbone, "size_divisibility", 0)  # that of Detectron2's Swin has no value
    return math.lcm(max(own, 1), *model.sem_seg_head.levels.strides.values())


def padded_images(model: nn.Module, batched_inputs: Sequence[Mapping[str, Any]]) -> ImageList:
    """Normalise the images of a batch, and pad them.

    Sides become multiples of :func:`padding_divisor`, unless the backbone has constraints. Pixels
    without data (NaN) have the pixel mean.

    Raises:
        ValueError: an image of other channels than the model's.
    """
    images = [one["image"].to(model.pixel_mean.device) for one in batched_inputs]
    for image in images:
        if len(image) != len(model.pixel_mean):
            raise ValueError(
                f"image must have {len(model.pixel_mean)} channels, as many as the model's "
                f"pixel_mean, got {tuple(image.shape)}"
            )
    return ImageList.from_tensors(
        [((image - model.pixel_mean) / model.pixel_std).nan_to_num(nan=0.0) for image in images],
        padding_divisor(model),
        padding_constraints=model.backbone.padding_constraints,
    )


def head_features(model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
    """Compute the features that a model's semantic head sees.

    They are the backbone's, unless the model has a method ``head_features`` that makes them of
    padded images (B, 3, H, W), as one does that refines features before its heads.
    """
    own = getattr(model, "head_features", None)
    return model.backbone(images) if own is None else own(images)


@torch.no_grad()
def compute_fields(
    model: nn.Module, batched_inputs: Sequence[Mapping[str, Any]]
) -> list[SegmentationField]:
    """Compute the fields of a batch of pictures.

    Pictures of more pixels than the model's ``max_pixels`` go through the backbone in windows, see
    :mod:`ifa_d2.modeling.windowed_features`, unless it takes square ones alone, or its features
    are refined by the model (:func:`head_features`), maybe by those far away.

    Args:
        model: with ``backbone``, ``sem_seg_head`` (an ``IFASemSegHead``), ``pixel_mean`` and
            ``pixel_std``, in eval mode; ``max_pixels`` of a batch is :data:`.MAX_PIXELS` if it has
            none, and None is no limit.
        batched_inputs: Detectron2's, each with ``image`` (3, h, w) and, where the picture was
            resized, its own ``height`` and ``width``, which are then the unit of windows.

    Raises:
        ValueError: a model in training mode, or as of ``windowed_features``.
    """
    check_eval(model)
    images = padded_images(model, batched_inputs)
    if _at_once(model, images.tensor):
        features = head_features(model, images.tensor)
    else:
        strides = model.sem_seg_head.levels.strides
        features = windowed_features(model.backbone, images.tensor, strides)
    return fields_of_features(model.sem_seg_head, features, images, batched_inputs)


def _at_once(model: nn.Module, images: Tensor) -> bool:
    """Return whether padded images go through a model whole."""
    limit = getattr(model, "max_pixels", MAX_PIXELS)
    batch, _, height, width = images.shape
    if limit is None or batch * height * width <= limit or hasattr(model, "head_features"):
        return True
    return bool(model.backbone.padding_constraints.get("square_size", 0))


def fields_of_features(
    head: nn.Module,
    features: Mapping[str, Tensor],
    images: ImageList,
    batched_inputs: Sequence[Mapping[str, Any]],
) -> list[SegmentationField]:
    """Make the fields of a batch from its features.

    Args:
        head: an ``IFASemSegHead`` in eval mode.
        features: (B, C, h, w) each, of the padded images.
        images: as of :func:`padded_images`.
        batched_inputs: as of :func:`compute_fields`.

    Raises:
        ValueError: a head in training mode.
    """
    check_eval(head)
    levels = head.levels.at_request(features)
    fields = []
    for i, (one, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
        picture_share = tuple(
            Fraction(int(a), int(b)) for a, b in zip(size, images.tensor.shape[-2:], strict=True)
        )
        own = (one.get("height", size[0]), one.get("width", size[1]))
        alone = [level[i : i + 1] for level in levels]
        field = SegmentationField(head.alignment, alone, own, picture_share, head.temperature)
        fields.append(field)
    return fields
