"""Detectron2's semantic segmentor, predicting at the picture's own pixels."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.structures import ImageList
from torch import Tensor

from ..fields import Refinement, SegmentationField
from .picture_fields import compute_fields, padded_images, padding_divisor
from .targets import LabelledPoints
from .windowed_features import MAX_PIXELS


@META_ARCH_REGISTRY.register()
class FieldSegmentor(SemanticSegmentor):
    """Semantic segmentor that decodes its head at the output's pixels.

    At inference the field is evaluated at the pixels of the output (a picture's ``height`` and
    ``width``), so that no logits of the whole picture are made unless they are wanted. Training is
    ``SemanticSegmentor``'s, but images are padded so that all features cover the same pixels,
    whatever the backbone asks for, and a head whose targets are points gets those that come with
    the images (``sem_seg_points``, see ``SemSegMapper``) in place of dense labels.

    Args:
        return_logits: ``sem_seg`` of the output is (K, H, W) logits, as Detectron2's own
            evaluators expect it, instead of (H, W) labels.
        refinement: labels are decoded only where coarser ones are uncertain, in much less time
            and almost the same; None decodes every pixel. It does not go with logits.
        max_pixels: a picture of more goes through the backbone in windows of 2048 x 2048 pixels
            that overlap by 512, so that memory is bounded but for the features; None is no limit.
        kwargs: those of ``SemanticSegmentor``.

    Raises:
        ValueError: logits together with a refinement, or ``max_pixels`` below 1.
    """

    @configurable
    def __init__(
        self,
        *,
        return_logits: bool = False,
        refinement: Refinement | None = None,
        max_pixels: int | None = MAX_PIXELS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if return_logits and refinement is not None:
            raise ValueError("refinement must be None with return_logits: only labels are refined")
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, or None, got {max_pixels}")
        self.return_logits = return_logits
        self.refinement = refinement
        self.max_pixels = max_pixels

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = cfg.MODEL.FIELD_SEGMENTOR
        refine = options.REFINEMENT
        return {
            **super().from_config(cfg),
            "return_logits": options.RETURN_LOGITS,
            "refinement": Refinement(refine.THRESHOLD, refine.BUDGET or None, refine.LEVELS)
            if refine.ENABLED
            else None,
            "max_pixels": options.MAX_PIXELS or None,
        }

    def fields(self, batched_inputs: Sequence[dict[str, Any]]) -> list[SegmentationField]:
        """A field for each picture; see :func:`ifa_d2.modeling.compute_fields`."""
        return compute_fields(self, batched_inputs)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training; otherwise ``{"sem_seg": labels or logits}`` a picture."""
        if self.training:
            return self._losses(batched_inputs)
        fields = self.fields(batched_inputs)
        return [{"sem_seg": self._answer(field)} for field in fields]

    def _answer(self, field: SegmentationField) -> Tensor:
        if self.return_logits:
            return field.logits()
        if self.refinement is not None:
            return field.refined_labels(refinement=self.refinement)
        return field.labels()

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        images = padded_images(self, batched_inputs)
        chosen = getattr(self.sem_seg_head, "targets", None)
        targets: LabelledPoints | Tensor | None = None
        if getattr(chosen, "takes_points", False) and "sem_seg_points" in batched_inputs[0]:
            targets = LabelledPoints.from_batch(
                batched_inputs, images.image_sizes, images.tensor.shape[-2:], self.device
            )
        elif "sem_seg" in batched_inputs[0]:
            targets = self._padded_labels(batched_inputs)
        _, losses = self.sem_seg_head(self.backbone(images.tensor), targets)
        return losses

    def _padded_labels(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """The labels of a batch, (B, H, W), padded as the images are."""
        return ImageList.from_tensors(
            [one["sem_seg"].to(self.device) for one in batched_inputs],
            padding_divisor(self),
            self.sem_seg_head.ignore_value,
            self.backbone.padding_constraints,
        ).tensor
