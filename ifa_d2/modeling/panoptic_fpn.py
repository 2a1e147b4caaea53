"""Detectron2's Panoptic FPN, with semantic labels at the picture's own pixels."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN

from .panoptic_field import PanopticField, compute_panoptic_fields


@META_ARCH_REGISTRY.register()
class FieldPanopticFPN(PanopticFPN):
    """Panoptic FPN whose semantic labels are decoded at the picture's pixels.

    Training is ``PanopticFPN``'s, and checkpoints are the same. At inference it gives what
    ``PanopticFPN`` gives, but no logits of the whole picture are made unless they are wanted.

    Args:
        return_logits: ``sem_seg`` of the output is (K, H, W) logits, as Detectron2's own
            evaluators expect it, instead of (H, W) labels.
        kwargs: those of ``PanopticFPN``.
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

    def fields(self, batched_inputs: Sequence[dict[str, Any]]) -> list[PanopticField]:
        """A field for each picture; see :func:`ifa_d2.modeling.compute_panoptic_fields`."""
        return compute_panoptic_fields(self, batched_inputs)

    def inference(self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = True) -> Any:
        """Compute ``sem_seg``, ``instances`` and ``panoptic_seg`` of each picture."""
        if not do_postprocess:
            return super().inference(batched_inputs, do_postprocess=False)
        return [
            {
                "sem_seg": field.logits() if self.return_logits else field.labels(),
                "instances": field.instances(),
                "panoptic_seg": field.panoptic(),
            }
            for field in self.fields(batched_inputs)
        ]
