"""IFA as the semantic branch of Detectron2's Panoptic-DeepLab."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab.loss import DeepLabCE
from torch import Tensor

from .criterion import check_labels
from .ifa_head import IFASemSegHead
from .losses import OhemCrossEntropy
from .targets import GridTargets


@SEM_SEG_HEADS_REGISTRY.register()
class IFAPanopticDeepLabHead(IFASemSegHead):
    """Head ``IFASemSegHead`` for ``PanopticDeepLab``, with its weighted loss.

    The loss is Panoptic-DeepLab's own: cross entropy, weighted, over the hardest pixels. It is
    taken at all pixels, so ``targets`` must be :class:`GridTargets`, and of ``criterion``, the
    default one, only the ``ignore_value`` is read; there is no auxiliary head.

    Args:
        loss_top_k: share of the pixels that count, the hardest ones, in (0, 1].
        kwargs: those of :class:`IFASemSegHead`.

    Raises:
        ValueError: a share out of range, other targets, another criterion, class weights, smoothed
            labels, or an auxiliary head.
    """

    @configurable
    def __init__(self, *, loss_top_k: float = 1.0, **kwargs: Any) -> None:
        if not 0 < loss_top_k <= 1:
            raise ValueError(f"loss_top_k must be in (0, 1], got {loss_top_k}")
        super().__init__(**kwargs)
        if not isinstance(self.targets, GridTargets):
            raise ValueError(f"targets must be GridTargets, got {type(self.targets).__name__}")
        loss = self.criterion
        if type(loss) is not OhemCrossEntropy:
            raise ValueError(f"criterion must be OhemCrossEntropy, got {type(loss).__name__}")
        if loss.class_weights is not None or loss.label_smoothing:
            raise ValueError(
                "criterion must be without class_weights and label_smoothing, which the loss of "
                f"Panoptic-DeepLab does not have, got {loss.class_weights}, {loss.label_smoothing}"
            )
        if len(self.aux_heads):
            raise ValueError(f"aux_heads must be empty, got {len(self.aux_heads)}")
        self.weighted_criterion = DeepLabCE(
            ignore_label=self.ignore_value, top_k_percent_pixels=float(loss_top_k)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "loss_top_k": cfg.MODEL.SEM_SEG_HEAD.LOSS_TOP_K,
        }

    def forward(
        self,
        features: Mapping[str, Tensor],
        targets: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute logits, or in training the loss, with pixel ``weights`` (B, H, W)."""
        if not self.training:
            return super().forward(features)
        if targets is None:
            raise ValueError("targets must be given in training, got None")
        return None, self.grid_losses(self.training_layers(features), targets, weights)

    def training_layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute the logits (B, K, h, w) on the finest feature's grid that the loss is of."""
        return self.decode(self.levels(features), self.grid(features))

    def grid_losses(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute ``loss_sem_seg`` of logits on the finest feature's grid.

        Args:
            logits: (B, K, h, w).
            targets: (B, H, W) int64 labels.
            weights: of the pixels (B, H, W); None is 1.

        Raises:
            ValueError: a label that is neither a class nor ``ignore_value``.
        """
        check_labels(targets, self.num_classes, self.ignore_value)
        logits = F.interpolate(
            logits.float(), size=targets.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = self.weighted_criterion(logits, targets, weights)
        return {"loss_sem_seg": loss * self.loss_weight}
