"""The semantic segmentation head: features to levels of a field, the field to logits.

Shape legend: B batch, C channels, K classes, h x w the finest feature's size, H x W the padded
input's size (h and w times the finest feature's stride).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..layers import GridQuery, ImplicitAlignment, Query
from .auxiliary import AuxiliaryHead
from .losses import OhemCrossEntropy
from .projection import ASPPProjection, PointwiseProjection

# How features are brought together: the options of the alignment that make it so.
_ALIGNMENTS: dict[str, dict[str, Any]] = {
    "ifa": {},
    "bilinear": {"encoding": "none", "local_ensemble": True},
    "nearest": {"encoding": "none", "local_ensemble": False},
}

TARGETS = ("grid", "jittered_grid")


@SEM_SEG_HEADS_REGISTRY.register()
class IFASemSegHead(nn.Module):
    """Implicit feature alignment as a head of Detectron2's ``SemanticSegmentor`` and
    ``PanopticFPN``.

    Args:
        input_shape: channels and stride of the features it is given.
        num_classes: K.
        in_features: names of the features that become levels.
        channels: channels of each level.
        hidden_dims: hidden layers of the MLP (the paper's Table 1: 512, 256, 256; its Tables 5 to
            7: 512, 256).
        alignment: ``"ifa"``; ``"bilinear"`` or ``"nearest"`` interpolate the levels, without any
            position, before the same MLP (paper, Table 1), and need none of the options from
            ``encoding`` to ``local_ensemble`` but ``unfold``.
        encoding, num_frequencies, frequency_law, coupled_frequencies, unfold, local_ensemble: see
            :class:`ifa_d2.layers.ImplicitAlignment`.
        norm: name of the norm of all layers, see Detectron2's ``get_norm``; "" for none.
        aspp_dilations: three dilations put ASPP on the coarsest feature (the paper's ``IFA*``);
            None or () a 1x1 convolution as on the others.
        aspp_dropout: channel dropout after ASPP.
        targets: what is learned from. ``"grid"``: logits on the finest feature's grid, upsampled to
            the labels (the paper's). ``"jittered_grid"``: that grid moved by a random part of its
            spacing in each iteration, and the labels at those places; the loss then sees
            ``common_stride ** 2`` times fewer pixels, and the field learns every offset, not just
            the few of one grid.
        ignore_value: label of pixels that do not count.
        loss_weight: factor of ``loss_sem_seg``.
        ohem_threshold, ohem_min_kept: of both losses, see :class:`OhemCrossEntropy`.
        aux_feature: feature of the auxiliary classifier; None or "" for none.
        aux_channels: its hidden channels.
        aux_loss_weight: factor of ``loss_sem_seg_aux``.

    Raises:
        ValueError: a feature that is not there, or an option out of range.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        num_classes: int,
        in_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        channels: int = 256,
        hidden_dims: Sequence[int] = (512, 256, 256),
        alignment: str = "ifa",
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled_frequencies: bool = False,
        unfold: bool = False,
        local_ensemble: bool = False,
        norm: str = "BN",
        aspp_dilations: Sequence[int] | None = None,
        aspp_dropout: float = 0.1,
        targets: str = "grid",
        ignore_value: int = 255,
        loss_weight: float = 1.0,
        ohem_threshold: float = 0.7,
        ohem_min_kept: int = 100_000,
        aux_feature: str | None = "res4",
        aux_channels: int = 256,
        aux_loss_weight: float = 0.4,
    ) -> None:
        super().__init__()
        _check_options(input_shape, in_features, aux_feature, alignment, targets)
        strides = {name: input_shape[name].stride for name in in_features}
        self.in_features = tuple(sorted(in_features, key=strides.__getitem__))  # finest first
        self.common_stride = strides[self.in_features[0]]
        self.num_classes = num_classes
        self.targets = targets
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.projections = nn.ModuleDict(
            {
                name: PointwiseProjection(input_shape[name].channels, channels, norm=norm)
                for name in self.in_features[: -1 if aspp_dilations else None]
            }
        )
        if aspp_dilations:
            coarsest = self.in_features[-1]
            self.projections[coarsest] = ASPPProjection(
                input_shape[coarsest].channels,
                channels,
                dilations=aspp_dilations,
                norm=norm,
                dropout=aspp_dropout,
            )
        options = {
            "encoding": encoding,
            "num_frequencies": num_frequencies,
            "frequency_law": frequency_law,
            "coupled_frequencies": coupled_frequencies and alignment == "ifa",
            "unfold": unfold,
            "local_ensemble": local_ensemble,
            **_ALIGNMENTS[alignment],
        }
        self.alignment = ImplicitAlignment(
            in_channels=[channels] * len(self.in_features),
            num_classes=num_classes,
            hidden_dims=tuple(hidden_dims),
            norm=partial(get_norm, norm),
            **options,
        )
        self.criterion = OhemCrossEntropy(
            threshold=ohem_threshold, min_kept=ohem_min_kept, ignore_value=ignore_value
        )
        self.aux_feature = aux_feature or None
        self.aux_loss_weight = aux_loss_weight
        self.aux_head: AuxiliaryHead | None = None
        if self.aux_feature:
            c = input_shape[self.aux_feature].channels
            self.aux_head = AuxiliaryHead(c, aux_channels, num_classes, norm=norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head, ifa = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.IFA
        return {
            "input_shape": input_shape,
            "num_classes": head.NUM_CLASSES,
            "in_features": head.IN_FEATURES,
            "channels": head.CONVS_DIM,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
            **{key.lower(): value for key, value in ifa.items()},
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Logits (B, K, H, W) and no losses; in training no logits, and losses.

        Args:
            features: (B, C, h, w) each.
            targets: (B, H, W) int64 labels, needed in training alone.

        Raises:
            ValueError: no targets in training, or a label that is neither a class nor
                ``ignore_value``.
        """
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training, got None")
            return None, self.losses(features, targets)
        logits = self.layers(features)
        height, width = (size * self.common_stride for size in logits.shape[-2:])
        return _resize(logits, (height, width)), {}

    def levels(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The field's levels (B, channels, h, w), finest first, channels last in memory."""
        return [
            projection(features[name].contiguous(memory_format=torch.channels_last))
            for name, projection in self.projections.items()
        ]

    def decode(self, levels: Sequence[Tensor], query: Query) -> Tensor:
        """Logits of the field at a query: (B, K, *query)."""
        return self.alignment(levels, query)

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, K, h, w) on the finest feature's grid."""
        size = features[self.in_features[0]].shape[-2:]
        return self.decode(self.levels(features), GridQuery.regular(*size))

    def losses(self, features: Mapping[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``."""
        size = targets.shape[-2:]
        if self.targets == "grid":
            loss = self.criterion(_resize(self.layers(features), size), targets)
        else:
            query = self._jittered_grid(features)
            logits = self.decode(self.levels(features), query)
            loss = self.criterion(logits, _labels_at(targets, query))
        losses = {"loss_sem_seg": loss * self.loss_weight}
        if self.aux_head is not None:
            logits = self.aux_head(features[self.aux_feature])
            loss = self.criterion(_resize(logits, size), targets)
            losses["loss_sem_seg_aux"] = loss * self.aux_loss_weight
        return losses

    def _jittered_grid(self, features: Mapping[str, Tensor]) -> GridQuery:
        """The finest feature's grid, moved by up to half its spacing along each axis."""
        size = features[self.in_features[0]].shape[-2:]
        shift = [(float(torch.rand(())) - 0.5) / n for n in size]
        return GridQuery.regular(*size).shifted(*shift)


def _check_options(
    input_shape: Mapping[str, ShapeSpec],
    in_features: Sequence[str],
    aux_feature: str | None,
    alignment: str,
    targets: str,
) -> None:
    for name in [*in_features, *([aux_feature] if aux_feature else [])]:
        if name not in input_shape:
            raise ValueError(f"features must be of {sorted(input_shape)}, got {name!r}")
    if not in_features:
        raise ValueError(f"in_features must name one or more of {sorted(input_shape)}")
    if alignment not in _ALIGNMENTS:
        raise ValueError(f"alignment must be one of {tuple(_ALIGNMENTS)}, got {alignment!r}")
    if targets not in TARGETS:
        raise ValueError(f"targets must be one of {TARGETS}, got {targets!r}")


def _labels_at(labels: Tensor, query: GridQuery) -> Tensor:
    """The labels (B, H, W) of the pixels that a grid's samples lie in."""
    for dim, axis in ((1, query.rows), (2, query.cols)):
        pixels = axis.taps(labels.shape[dim], ensemble=False).cells[0]
        labels = labels.index_select(dim, pixels.to(labels.device))
    return labels


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
