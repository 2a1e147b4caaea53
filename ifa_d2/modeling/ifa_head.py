"""Semantic segmentation head: features to levels of a field, the field to logits.

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
from torch import Tensor

from ..data.points import PointSampler
from ..layers import GridQuery, ImplicitAlignment, Level, Query
from .alignments import field_options
from .auxiliary import AuxiliaryHead
from .feature_levels import FeatureLevels, check_features
from .grid_decoder import build_grid_decoder
from .losses import OhemCrossEntropy, check_labels
from .targets import PointTargets, Sample, TargetSampler, evaluating, interpolate


@SEM_SEG_HEADS_REGISTRY.register()
class IFASemSegHead(FeatureLevels):
    """Implicit feature alignment as a semantic segmentation head of Detectron2.

    It is made for ``SemanticSegmentor``, ``PanopticFPN`` and ``FieldSegmentor``.

    Args:
        input_shape: channels and stride of the features it is given.
        num_classes: K.
        in_features: names of the features that become levels.
        channels: channels of each level; one number, or one for each of ``in_features``.
        projections: how features become levels, one name or one for each of ``in_features``.
            ``"pointwise"``: by a 1x1 convolution. ``"identity"``: as they are (HRNet).
            ``"aspp"``: by Detectron2's ASPP (DeepLabV3+), dilations 6, 12, 18 if ``aspp_dilations``
            gives no others. ``"pyramid_pooling"``: as they are, and pooled to maps of
            ``pool_sizes`` cells a side, levels of ``channels`` each (PSPNet).
        hidden_dims: hidden layers of the MLP (the paper's Table 1: 512, 256, 256; its Tables 5 to
            7: 512, 256), or of ``decoder``; () is a linear classifier of the aligned levels.
        decoder: ``"pointwise"``: an MLP at each query, which answers anywhere. The others act on
            the finest feature's grid, between whose cells their answers are interpolated:
            ``"conv"``, whose layers are 3x3 convolutions of the aligned levels (DeepLabV3+,
            PSPNet); ``"ocr"``, object context of ``hidden_dims[0]`` channels (HRNet-OCR) before
            the MLP.
        alignment: ``"ifa"``; ``"bilinear"`` or ``"nearest"`` interpolate the levels, without any
            position, before the same MLP (paper, Table 1), and need none of the options from
            ``encoding`` to ``local_ensemble`` but ``unfold``. ``"deconvolution"``,
            ``"upsampling"``, ``"carafe"``, ``"alignseg"`` and ``"sapa"`` bring the levels to the
            finest feature's grid by layers of their own, see :mod:`ifa_d2.modeling.alignments`;
            from there on they are as ``"bilinear"``.
        alignment_options: keyword arguments of those methods.
        encoding, num_frequencies, frequency_law, coupled_frequencies, integrated_encoding,
            cell_decoding, unfold, local_ensemble, ensemble_outputs: see
            :class:`ifa_d2.layers.ImplicitAlignment`.
        norm: name of the norm of all layers, see Detectron2's ``get_norm``; "" for none.
        aspp_dilations: three dilations put ASPP on the coarsest feature (the paper's ``IFA*``), in
            place of its ``"pointwise"`` projection; None or () leaves it.
        aspp_dropout: channel dropout after ASPP.
        aspp_fuse_channels: channels that a 1x1 convolution fuses ASPP to, before it is projected as
            the other features are (R-18: 512, for the paper's costs); None or 0 fuses to
            ``channels`` by a 3x3 convolution.
        pool_sizes: of ``"pyramid_pooling"``.
        targets: what is learned from. ``"grid"``: logits on the finest feature's grid, upsampled to
            the labels (the paper's). The others see ``common_stride ** 2`` times fewer pixels or
            less, and let the field learn every offset, not just the few of one grid:
            ``"jittered_grid"``: that grid moved by a random part of its spacing in each iteration,
            and the labels at those places. ``"points"``: points at continuous coordinates.
            ``"uncertain_points"``: of more points, those whose class is least certain, and some
            uniform ones (PointRend, Kirillov et al. 2020, Sec. 3.1). Points come from the data
            where those hold them (``FieldSegmentor``), else they are drawn from the dense labels.
        target_spacings: of the jittered grid, see :class:`~.targets.TargetSampler`.
        num_points: of each image, where they are drawn from dense labels.
        point_sampling, boundary_width, point_balance: of "points" then, ``sampling`` and others of
            :class:`ifa_d2.data.PointSampler`.
        importance_ratio: share of the points that are not uniform.
        oversample_ratio: candidates of "uncertain_points" for each point that is kept.
        ignore_value: label of pixels that do not count.
        loss_weight: factor of ``loss_sem_seg``.
        ohem_threshold, ohem_min_kept: of both losses, see :class:`OhemCrossEntropy`. Where fewer
            places are asked than there are pixels, ``ohem_min_kept`` shrinks alike.
        aux_feature: feature of the auxiliary classifier; None or "" for none.
        aux_channels: its hidden channels.
        aux_loss_weight: factor of ``loss_sem_seg_aux``, and of ``loss_sem_seg_regions``, which
            supervises the soft object regions of ``"ocr"``.

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
        channels: int | Sequence[int] = 256,
        projections: Sequence[str] = ("pointwise",),
        hidden_dims: Sequence[int] = (512, 256, 256),
        decoder: str = "pointwise",
        alignment: str = "ifa",
        alignment_options: Mapping[str, Any] | None = None,
        encoding: str = "learned",
        num_frequencies: int = 6,
        frequency_law: str = "pow2",
        coupled_frequencies: bool = False,
        integrated_encoding: bool = False,
        cell_decoding: bool = False,
        unfold: bool = False,
        local_ensemble: bool = False,
        ensemble_outputs: bool = False,
        norm: str = "BN",
        aspp_dilations: Sequence[int] | None = None,
        aspp_dropout: float = 0.1,
        aspp_fuse_channels: int | None = None,
        pool_sizes: Sequence[int] = (1, 2, 3, 6),
        targets: str = "grid",
        target_spacings: Sequence[float] = (1.0,),
        num_points: int = 2048,
        point_sampling: str = "uniform",
        importance_ratio: float = 0.75,
        boundary_width: int = 4,
        point_balance: float = 1.0,
        oversample_ratio: float = 3.0,
        ignore_value: int = 255,
        loss_weight: float = 1.0,
        ohem_threshold: float = 0.7,
        ohem_min_kept: int = 100_000,
        aux_feature: str | None = "res4",
        aux_channels: int = 256,
        aux_loss_weight: float = 0.4,
    ) -> None:
        super().__init__(
            input_shape=input_shape,
            in_features=in_features,
            channels=channels,
            projections=projections,
            aspp_dilations=aspp_dilations,
            aspp_dropout=aspp_dropout,
            aspp_fuse_channels=aspp_fuse_channels,
            pool_sizes=pool_sizes,
            alignment=alignment,
            alignment_options=alignment_options,
            norm=norm,
        )
        self.num_classes = num_classes
        self.targets = targets
        self.sampler = TargetSampler(
            targets=targets,
            spacings=target_spacings,
            points=PointSampler(
                num_points=num_points,
                sampling=point_sampling,
                importance_ratio=importance_ratio,
                boundary_width=boundary_width,
                balance=point_balance,
                ignore_value=ignore_value,
            ),
            oversample_ratio=oversample_ratio,
        )
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        options = {
            "encoding": encoding,
            "num_frequencies": num_frequencies,
            "frequency_law": frequency_law,
            "coupled_frequencies": coupled_frequencies and alignment == "ifa",
            "integrated_encoding": integrated_encoding and alignment == "ifa",
            "cell_decoding": cell_decoding and alignment == "ifa",
            "unfold": unfold,
            "local_ensemble": local_ensemble,
            "ensemble_outputs": ensemble_outputs,
            **field_options(alignment),
        }
        self.grid_decoder, rest = build_grid_decoder(
            decoder,
            in_channels=self.level_channels,
            hidden_dims=hidden_dims,
            num_classes=num_classes,
            norm=norm,
            options=options,
        )
        self.alignment = ImplicitAlignment(
            num_classes=num_classes, norm=partial(get_norm, norm), **rest
        )
        self.criterion = OhemCrossEntropy(
            threshold=ohem_threshold, min_kept=ohem_min_kept, ignore_value=ignore_value
        )
        self.aux_feature = aux_feature or None
        self.aux_loss_weight = aux_loss_weight
        self.aux_head: AuxiliaryHead | None = None
        if self.aux_feature:
            check_features(input_shape, [self.aux_feature])
            c = input_shape[self.aux_feature].channels
            self.aux_head = AuxiliaryHead(c, aux_channels, num_classes, norm=norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head, ifa = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.IFA
        return {
            "input_shape": input_shape,
            "num_classes": head.NUM_CLASSES,
            "in_features": head.IN_FEATURES,
            "channels": ifa.LEVEL_CHANNELS or head.CONVS_DIM,
            "norm": head.NORM,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
            **{key.lower(): value for key, value in ifa.items() if key != "LEVEL_CHANNELS"},
            "alignment_options": {k.lower(): v for k, v in ifa.ALIGNMENT_OPTIONS.items()},
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | PointTargets | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute logits (B, K, H, W), or in training the losses.

        Args:
            features: (B, C, h, w) each. All are taken to cover the same pixels, as they do where
                images are padded to a multiple of the coarsest stride (the backbones here, FPN,
                fields of any backbone; Detectron2's plain ResNet asks for no padding).
            targets: (B, H, W) int64 labels, or labelled points for the point targets; needed in
                training alone.

        Raises:
            ValueError: no targets in training, points where a grid is asked, or a label that is
                neither a class nor ``ignore_value``.
        """
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training, got None")
            return None, self.losses(features, targets)
        logits = self.layers(features)
        height, width = (size * self.common_stride for size in logits.shape[-2:])
        return _resize(logits, (height, width)), {}

    def decode(self, levels: Sequence[Level], query: Query) -> Tensor:
        """Decode levels at a query, to logits (B, K, *S)."""
        return self.alignment(levels, query)

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits (B, K, h, w) on the finest feature's grid."""
        size = features[self.in_features[0]].shape[-2:]
        return self.decode(self.levels_at_request(features), GridQuery.regular(*size))

    def losses(
        self, features: Mapping[str, Tensor], targets: Tensor | PointTargets
    ) -> dict[str, Tensor]:
        """Compute ``loss_sem_seg`` and, with an auxiliary head, ``loss_sem_seg_aux``."""
        labels = targets if isinstance(targets, Tensor) else targets.labels
        check_labels(labels, self.num_classes, self.ignore_value)  # once: a device is waited for
        levels, regions = self.levels_and_regions(features)
        size = features[self.in_features[0]].shape[-2:]
        with evaluating(self.alignment):
            sample = self.sampler(size, targets, partial(self.decode, levels))
        logits = self.decode(levels, sample.query)
        share = sample.labels[0].numel() / (size.numel() * self.common_stride**2)
        losses = {"loss_sem_seg": self._loss(logits, sample, share) * self.loss_weight}
        auxiliary = {} if regions is None else {"loss_sem_seg_regions": regions}
        if self.aux_head is not None:
            auxiliary["loss_sem_seg_aux"] = self.aux_head(features[self.aux_feature])
        for name, logits in auxiliary.items():
            if self.targets != "grid":
                logits = interpolate(logits, sample.query)
            losses[name] = self._loss(logits, sample, share) * self.aux_loss_weight
        return losses

    def _loss(self, logits: Tensor, sample: Sample, share: float) -> Tensor:
        if self.targets == "grid":
            logits = logits.to(torch.promote_types(logits.dtype, torch.float))  # as the loss does
            logits, share = _resize(logits, sample.labels.shape[-2:]), 1.0
        return self.criterion(logits, sample.labels, share=min(share, 1.0), checked=True)


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
