"""Panoptic segmentation of one picture as a field.

Units and axes are those of :mod:`ifa_d2.fields.field`. Boxes are Detectron2's, (x0, y0, x1, y1).

Shape legend: N instances, M x M their masks as the model predicts them, H x W samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.meta_arch.panoptic_fpn import (
    PanopticFPN,
    combine_semantic_and_instance_outputs,
)
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..fields import SegmentationField, Size, Window, check_eval
from .picture_fields import fields_of_features, padded_images

Segments = list[dict[str, Any]]


@dataclass(frozen=True)
class Merging:
    """Thresholds by which instances and stuff become segments (Kirillov et al. 2019).

    Attributes:
        overlap: share of an instance's mask that better scored ones may take before it is left out.
        stuff_area: pixels of the picture that a stuff class must cover.
        score: of the instances that are looked at, at least.
    """

    overlap: float = 0.5
    stuff_area: float = 4096
    score: float = 0.5


class PanopticField(SegmentationField):
    """The field of a picture with the instances that were detected in it.

    What becomes a segment is decided once, on the picture's own pixels, as Detectron2's
    ``PanopticFPN`` does. A window shows those segments under those ids at any size: windows agree
    with each other, and with the whole picture.

    Args:
        detections: of the picture as the model saw it, with ``pred_boxes``, ``scores``,
            ``pred_classes`` and, where masks are predicted, ``pred_masks`` (N, 1, M, M) in [0, 1].
        merging: when what was found becomes a segment.
        kwargs: those of :class:`SegmentationField`. Class 0 of the labels is "things".

    Raises:
        ValueError: detections without masks, or what :class:`SegmentationField` raises.
    """

    def __init__(self, *, detections: Instances, merging: Merging | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if len(detections) and not detections.has("pred_masks"):
            has = sorted(detections.get_fields())
            raise ValueError(f"detections must have pred_masks, got {has}")
        self.merging = merging or Merging()
        self.detections = self._of_picture(detections)

    def _of_picture(self, detections: Instances) -> Instances:
        """Detections with boxes in pixels of the picture, without those outside it."""
        height, width = self.image_size
        boxes = detections.pred_boxes.clone()
        boxes.scale(width / detections.image_size[1], height / detections.image_size[0])
        boxes.clip(self.image_size)
        found = Instances(self.image_size, **detections.get_fields())
        found.pred_boxes = boxes
        return found[boxes.nonempty()]

    def instances(self, size: Size | None = None, window: Window | None = None) -> Instances:
        """The instances that a window shows, pasted at a size.

        Args:
            size, window: as of :meth:`query`.

        Returns:
            ``pred_boxes`` in samples of the output, cut at its border, ``pred_masks`` (N, H, W)
            bool, ``scores``, ``pred_classes`` and ``indices`` into :attr:`detections`. On the
            whole picture at its own size they are those of Detectron2's ``PanopticFPN``.

        Raises:
            ValueError: as :meth:`query`.
        """
        size, boxes = self._window_boxes(size, window)
        inside = _cut(boxes, size)
        shown = inside.nonempty().nonzero()[:, 0]
        found = Instances(size, **self.detections[shown].get_fields())
        if found.has("pred_masks"):
            # Of the uncut boxes: a mask fills its whole box, also what lies out of the window.
            found.pred_masks = self._paste(shown, boxes, size)
        found.pred_boxes = inside[shown]
        found.indices = shown
        return found

    def panoptic(
        self, size: Size | None = None, window: Window | None = None
    ) -> tuple[Tensor, Segments]:
        """The merged map of a window, and the segments in it.

        Args:
            size, window: as of :meth:`query`.

        Returns:
            (H, W) int32 segment ids, 0 where there is none, on the CPU; and for each id that
            occurs Detectron2's ``segments_info``: ``id``, ``isthing``, ``category_id`` (of the
            things' classes or of the stuff's), ``score`` and ``instance_id`` (an index into
            :attr:`detections`) of things, ``area`` of stuff in pixels of the whole picture.

        Raises:
            ValueError: as :meth:`query`.
        """
        if size is None and window is None:
            return self._whole[0].clone(), [dict(one) for one in self._whole[1]]
        merged, segments = self._render(size, window)
        present = set(merged.unique().tolist())
        return merged, [dict(one) for one in segments if one["id"] in present]

    @cached_property
    def _whole(self) -> tuple[Tensor, Segments]:
        """The picture at its own pixels, by Detectron2's own rules."""
        found = self.instances()
        if not found.has("pred_masks"):  # nothing detected by a model that made no masks of it
            found.pred_masks = torch.zeros((0, *self.image_size), dtype=torch.bool)
        merging = self.merging
        return combine_semantic_and_instance_outputs(
            found.to("cpu"),
            self.labels().to(torch.int64),
            merging.overlap,
            merging.stuff_area,
            merging.score,
        )

    def _render(self, size: Size | None, window: Window | None) -> tuple[Tensor, Segments]:
        """The segments of the whole picture, drawn in a window."""
        labels = self.labels(size, window).long()
        size, boxes = self._window_boxes(size, window)
        shown = set(_cut(boxes, size).nonempty().nonzero()[:, 0].tolist())
        merged = torch.zeros(size, dtype=torch.int32)
        stuff = torch.zeros(self.num_classes, dtype=torch.int32)
        for segment in self._whole[1]:
            if not segment["isthing"]:
                stuff[segment["category_id"]] = segment["id"]
            elif segment["instance_id"] in shown:
                index = torch.tensor([segment["instance_id"]], device=boxes.device)
                mask = self._paste(index, boxes, size)[0].cpu()
                merged[mask & (merged == 0)] = segment["id"]
        return torch.where(merged == 0, stuff[labels], merged), self._whole[1]

    def _window_boxes(
        self, size: Size | None, window: Window | None
    ) -> tuple[tuple[int, int], Tensor]:
        """The output's size, and the detections' boxes (N, 4) in its samples, not cut."""
        size = self.query(size, window).size
        y0, x0, y1, x1 = map(float, (0, 0, *self.image_size) if window is None else window)
        boxes = self.detections.pred_boxes.tensor
        # In double precision, as a window may be much narrower than the boxes' coordinates.
        shift = torch.tensor([x0, y0, x0, y0], dtype=torch.float64, device=boxes.device)
        scale = shift.new_tensor([size[1] / (x1 - x0), size[0] / (y1 - y0)]).repeat(2)
        return size, ((boxes - shift) * scale).to(boxes.dtype)

    def _paste(self, indices: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Paste masks of detections into boxes (N, 4), to bool (N, H, W)."""
        masks = self.detections.pred_masks[indices, 0]
        return paste_masks_in_image(masks, boxes[indices], size, threshold=0.5).bool()


def _cut(boxes: Tensor, size: tuple[int, int]) -> Boxes:
    """Boxes (N, 4) cut at the border of (height, width)."""
    inside = Boxes(boxes.clone())
    inside.clip(size)
    return inside


@torch.no_grad()
def compute_panoptic_fields(
    model: PanopticFPN, batched_inputs: Sequence[Mapping[str, Any]]
) -> list[PanopticField]:
    """The panoptic fields of a batch of pictures.

    Args:
        model: a ``PanopticFPN`` with an ``IFASemSegHead``, in eval mode.
        batched_inputs: as of :func:`ifa_d2.modeling.compute_fields`.

    Raises:
        ValueError: a model in training mode, or another one.
    """
    check_eval(model)
    if not isinstance(model, PanopticFPN):
        raise ValueError(
            "model must be a PanopticFPN, whose instances are boxes with masks, got "
            f"{type(model).__name__}: compute_fields gives the field of its semantic head"
        )
    images = padded_images(model, batched_inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    detections, _ = model.roi_heads(images, features, proposals, None)
    merging = Merging(
        model.combine_overlap_thresh,
        model.combine_stuff_area_thresh,
        model.combine_instances_score_thresh,
    )
    fields = fields_of_features(model.sem_seg_head, features, images, batched_inputs)
    return [
        PanopticField(
            detections=found,
            merging=merging,
            alignment=field.alignment,
            levels=field.levels,
            image_size=field.image_size,
            picture_share=field.picture_share,
            temperature=field.temperature,
        )
        for field, found in zip(fields, detections, strict=True)
    ]
