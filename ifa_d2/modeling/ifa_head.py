"""Semantic segmentation head: features to levels of a field, the field to logits.

Shape legend: B batch, C channels, K classes, h x w the finest feature's size, H x W the padded
input's size (h and w times the finest feature's stride).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..layers import GridQuery, ImplicitAlignment, Level, Query
from .auxiliary import AuxiliaryTask, TrainingStep
from .criterion import check_criterion, check_labels, evaluate_criterion, ignored_label
from .feature_levels import FeatureLevels
from .head_config import head_config, yacs_options
from .losses import OhemCrossEntropy
from .targets import GridTargets, LabelledPoints, Sample, Targets, evaluating

_TEMPERATURE = "temperature"  # in a state dict
# Where modules of checkpoints have gone from before heads were made of parts.
_MOVED = {
    "projections.": "levels.projections.",
    "dense_alignment.": "levels.dense_alignment.",
    "grid_decoder.": "levels.grid_decoder.",
    "aux_head.": "aux_heads.0.",
}


@SEM_SEG_HEADS_REGISTRY.register()
class IFASemSegHead(nn.Module):
    """Implicit feature alignment as a semantic segmentation head of Detectron2.

    It is made for ``SemanticSegmentor``, ``PanopticFPN`` and ``FieldSegmentor``.

    Args:
        num_classes: number of classes K.
        levels: makes levels of the backbone's features.
        alignment: the field over these levels.
        targets: where the field is evaluated in training; None is the paper's :class:`GridTargets`.
        criterion: of logits (B, K, *S) and labels (B, *S), of this package or another, see
            :func:`.criterion.evaluate_criterion`; None is :class:`OhemCrossEntropy`. The label that
            it ignores is the head's ``ignore_value``.
        aux_heads: auxiliary classifiers of features, and other tasks, for training alone.
        loss_weight: factor of ``loss_sem_seg``.
        aux_loss_weight: factor of ``loss_sem_seg_aux``, the sum over auxiliary classifiers, and of
            ``loss_sem_seg_regions``, which supervises the soft object regions of a
            :class:`ObjectContextDecoder`.

    Attributes:
        temperature: that logits are divided by in eval mode, so that their softmax says how often
            the most likely class is right (Guo et al. 2017, https://arxiv.org/abs/1706.04599, Sec.
            4.2); 1 until ``tools/fit_temperature.py`` has fitted another. It is part of the state
            dict where it is not 1. Losses do not know it.

    Raises:
        ValueError: parts that do not fit each other.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        levels: FeatureLevels,
        alignment: ImplicitAlignment,
        targets: Targets | None = None,
        criterion: nn.Module | None = None,
        aux_heads: Sequence[AuxiliaryTask] = (),
        loss_weight: float = 1.0,
        aux_loss_weight: float = 0.4,
    ) -> None:
        super().__init__()
        if alignment.in_channels != levels.level_channels:
            raise ValueError(
                f"alignment.in_channels must be {levels.level_channels}, of the levels, got "
                f"{alignment.in_channels}"
            )
        made = alignment.predictor.out_channels
        if made != num_classes:
            raise ValueError(f"alignment.num_classes must be num_classes {num_classes}, got {made}")
        self.num_classes = num_classes
        self.levels = levels
        self.alignment = alignment
        self.targets = targets or GridTargets()
        self.criterion = criterion or OhemCrossEntropy()
        check_criterion(self.criterion, num_classes)
        self.aux_heads = nn.ModuleList(aux_heads)
        for aux in aux_heads:
            aux.check(levels.feature_channels, num_classes, self.criterion)
        self.loss_weight = loss_weight
        self.aux_loss_weight = aux_loss_weight
        self.temperature = 1.0
        sampler = self.targets.sampler
        if sampler is not None and sampler.ignore_value != self.ignore_value:
            raise ValueError(
                f"targets.sampler.ignore_value must be the criterion's {self.ignore_value}, got "
                f"{sampler.ignore_value}"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        parts = head_config(yacs_options(cfg, input_shape))
        return {name: instantiate(parts[name]) for name in parts}

    @property
    def ignore_value(self) -> int:
        """Label of pixels that do not count."""
        return ignored_label(self.criterion)

    @property
    def common_stride(self) -> int:
        """Pixels a cell of the finest feature."""
        return self.levels.common_stride

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | LabelledPoints | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Compute logits (B, K, H, W), divided by the temperature, or in training the losses.

        Args:
            features: (B, C, h, w) each. All are taken to cover the same pixels, as they do where
                images are padded to a multiple of the coarsest stride (the backbones here, FPN,
                fields of any backbone; Detectron2's plain ResNet asks for no padding).
            targets: (B, H, W) int64 labels, or labelled points for the point targets; needed in
                training alone.

        Raises:
            ValueError: no targets in training, points where a grid is wanted, or a label that is
                neither a class nor ``ignore_value``.
        """
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training, got None")
            return None, self.losses(features, targets)
        logits = self.layers(features)
        logits = logits if self.temperature == 1 else logits / self.temperature
        height, width = (size * self.common_stride for size in logits.shape[-2:])
        return _resize(logits, (height, width)), {}

    def decode(self, levels: Sequence[Level], query: Query) -> Tensor:
        """Decode levels at a query, to logits (B, K, *S)."""
        return self.alignment(levels, query)

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits (B, K, h, w) on the finest feature's grid."""
        return self.decode(self.levels.at_request(features), self.grid(features))

    def losses(
        self, features: Mapping[str, Tensor], targets: Tensor | LabelledPoints
    ) -> dict[str, Tensor]:
        """Compute ``loss_sem_seg`` and, with auxiliary heads, ``loss_sem_seg_aux`` and others."""
        labels = targets if isinstance(targets, Tensor) else targets.labels
        check_labels(labels, self.num_classes, self.ignore_value)  # once: a device is waited for
        levels, regions = self.levels.with_regions(features)
        size = torch.Size(self.grid(features).size)
        with evaluating(self.alignment):
            sample = self.targets(
                size,
                targets,
                decode=partial(self.decode, levels),
                ignore_value=self.ignore_value,
            )
        share = sample.labels[0].numel() / (size.numel() * self.common_stride**2)
        logits = self.decode(levels, sample.query)
        losses = {"loss_sem_seg": self._loss(logits, sample, share) * self.loss_weight}
        step = TrainingStep(
            features=features,
            targets=targets,
            sample=sample,
            logits=logits,
            criterion=partial(self._loss, share=share),
            ignore_value=self.ignore_value,
            aux_loss_weight=self.aux_loss_weight,
        )
        if regions is not None:
            loss = step.criterion(step.at_sample(regions), sample)
            losses["loss_sem_seg_regions"] = loss * self.aux_loss_weight
        for aux in self.aux_heads:
            for name, loss in aux.losses(step).items():
                losses[name] = losses[name] + loss if name in losses else loss
        return losses

    def auxiliary_logits(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Compute what the auxiliary heads say, in training or not: (B, G, h, w) of each.

        G, as the groups of classes, and the size are each head's own.
        """
        return [aux.logits(features) for aux in self.aux_heads]

    def grid(self, features: Mapping[str, Tensor]) -> GridQuery:
        """Return the query of the finest feature's grid."""
        return GridQuery.regular(*features[self.levels.in_features[0]].shape[-2:])

    def _loss(self, logits: Tensor, sample: Sample, share: float) -> Tensor:
        if sample.upsampled:
            logits = logits.to(torch.promote_types(logits.dtype, torch.float))  # as the loss does
            logits, share = _resize(logits, sample.labels.shape[-2:]), 1.0
        return evaluate_criterion(self.criterion, logits, sample.labels, share=min(share, 1.0))

    def extra_repr(self) -> str:
        """The temperature, by which models of equal weights differ."""
        return f"temperature={self.temperature}" if self.temperature != 1 else ""

    def rename_moved(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Give tensors of checkpoints from before heads had parts their present names.

        Args:
            state_dict: of a model, changed in place.
            prefix: of the head's tensors in it, "sem_seg_head." as a rule.
        """
        for before, now in _MOVED.items():
            moved = [name for name in state_dict if name.startswith(prefix + before)]
            for name in moved:
                state_dict[prefix + now + name.removeprefix(prefix + before)] = state_dict.pop(name)

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.temperature != 1:
            destination[prefix + _TEMPERATURE] = torch.tensor(self.temperature, dtype=torch.double)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self.rename_moved(state_dict, prefix)
        # Weights that come without have none: that of others would be wrong for them.
        temperature = float(state_dict.pop(prefix + _TEMPERATURE, 1.0))
        if not 0 < temperature < float("inf"):
            raise ValueError(f"{prefix}{_TEMPERATURE} must be above 0, got {temperature}")
        self.temperature = temperature
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    # A softmax over classes that lie last in memory would first copy all of them.
    logits = logits.contiguous()
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
