"""Detectron2's semantic segmentor, answering at the picture's own pixels."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor

from .field import SegmentationField, compute_fields


@META_ARCH_REGISTRY.register()
class FieldSegmentor(SemanticSegmentor):
    """``SemanticSegmentor`` over an ``IFASemSegHead`` whose answers are decoded, not resized.

    At inference the field is asked at the pixels of the output (a picture's ``height`` and
    ``width``), so that no logits of the whole picture are made unless they are wanted. Training is
    ``SemanticSegmentor``'s.

    Args:
        return_logits: ``sem_seg`` of the output is (K, H, W) logits, as Detectron2's own
            evaluators expect it, instead of (H, W) labels.
        kwargs: those of ``SemanticSegmentor``.
    """

    @configurable
    def __init__(self, *, return_logits: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.return_logits = return_logits

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **super().from_config(cfg),
            "return_logits": cfg.MODEL.FIELD_SEGMENTOR.RETURN_LOGITS,
        }

    def fields(self, batched_inputs: Sequence[dict[str, Any]]) -> list[SegmentationField]:
        """A field for each picture; see :func:`ifa_d2.modeling.compute_fields`."""
        return compute_fields(self, batched_inputs)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training; otherwise ``{"sem_seg": labels or logits}`` a picture."""
        if self.training:
            return super().forward(batched_inputs)
        fields = self.fields(batched_inputs)
        answers = [field.logits() if self.return_logits else field.labels() for field in fields]
        return [{"sem_seg": answer} for answer in answers]
