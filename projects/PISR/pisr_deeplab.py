"""Panoptic-DeepLab whose heads predict twice, with relations of what they found in between.

Shape legend: B batch, C channels, K classes, h x w cells of the finest feature, H x W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.projects.deeplab import DeepLabV3PlusHead
from detectron2.structures import ImageList
from instance_maps import instance_maps
from panoptic_deeplab import PanopticDeepLabInsEmbedHead, get_panoptic_segmentation
from panoptic_relations import PanopticRelations
from torch import Tensor, nn

from ifa_d2.modeling import IFAPanopticDeepLabHead
from ifa_d2.modeling.picture_fields import padded_images, padding_divisor

# What Detectron2's mapper for Panoptic-DeepLab makes of a panoptic picture.
TARGETS = (
    *("sem_seg", "sem_seg_weights", "center", "center_weights"),
    *("offset", "offset_weights"),
)
_VOID = -1


class Prediction(NamedTuple):
    """What the heads predict on the finest feature's grid, and from what.

    Attributes:
        features: of the backbone, which the semantic head sees.
        decoded: the instance head's features (B, C, h, w).
        centers: heat map (B, 1, h, w).
        offsets: to the instances' centres (B, 2, h, w), (y, x) in cells.
    """

    features: Mapping[str, Tensor]
    decoded: Tensor
    centers: Tensor
    offsets: Tensor


class PISRPanopticDeepLab(nn.Module):
    """Panoptic-DeepLab with panoptic relational attention (PISR, Borse et al., CVPR 2022).

    Both heads predict from the backbone's features. Of these predictions, and a feature,
    :class:`PanopticRelations` makes residuals, one on the semantic head's finest feature and one on
    what the instance head has decoded; from the sums the heads predict again, by the same weights.
    The first prediction is supervised too. As residuals begin as 0, the model begins as its base:
    the one without relations, which is Detectron2's ``PanopticDeepLab`` with the same weights under
    the same names.

    Args:
        backbone: the backbone.
        sem_seg_head: the semantic head.
        ins_embed_head: centres and offsets.
        relations: None is the base.
        thing_classes: ids of the classes whose instances are told apart.
        pixel_mean, pixel_std: of each channel.
        label_divisor: of panoptic ids, class * label_divisor + number, as the metadata has it.
        center_threshold, nms_kernel, top_k, stuff_area: of Detectron2's
            ``get_panoptic_segmentation``: least score of a centre, neighbourhood in pixels in which
            it is the highest, centres at most, pixels of a stuff segment at least.
        initial_loss_weight: factor of the first prediction's losses.

    Raises:
        ValueError: heads or relations that do not fit, or a number out of range; when called,
            training inputs without the targets of Panoptic-DeepLab.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: IFAPanopticDeepLabHead,
        ins_embed_head: PanopticDeepLabInsEmbedHead,
        relations: PanopticRelations | None = None,
        thing_classes: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        label_divisor: int = 1000,
        center_threshold: float = 0.1,
        nms_kernel: int = 7,
        top_k: int = 200,
        stuff_area: int = 2048,
        initial_loss_weight: float = 0.4,
    ) -> None:
        super().__init__()
        for name, value, kind in (
            ("sem_seg_head", sem_seg_head, IFAPanopticDeepLabHead),
            ("ins_embed_head", ins_embed_head, PanopticDeepLabInsEmbedHead),
        ):
            if not isinstance(value, kind):
                raise ValueError(f"{name} must be of {kind.__name__}, got {type(value).__name__}")
        self.thing_classes = tuple(thing_classes)
        if not set(self.thing_classes) <= set(range(sem_seg_head.num_classes)):
            raise ValueError(
                f"thing_classes must be of the {sem_seg_head.num_classes} classes, got "
                f"{list(self.thing_classes)}"
            )
        if sem_seg_head.common_stride != ins_embed_head.common_stride:
            raise ValueError(
                f"ins_embed_head.common_stride must be {sem_seg_head.common_stride}, of the "
                f"semantic head's finest feature, got {ins_embed_head.common_stride}"
            )
        if initial_loss_weight < 0:
            raise ValueError(f"initial_loss_weight must be 0 or above, got {initial_loss_weight}")
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.ins_embed_head = ins_embed_head
        self.relations = relations
        if relations is not None:
            self._check_relations(relations)
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), False)
        self.label_divisor = label_divisor
        self.center_threshold = center_threshold
        self.nms_kernel = nms_kernel
        self.top_k = top_k
        self.stuff_area = stuff_area
        self.initial_loss_weight = initial_loss_weight

    def _check_relations(self, relations: PanopticRelations) -> None:
        """Check that relations read and write what is there."""
        shapes = {name: shape.channels for name, shape in self.backbone.output_shape().items()}
        if relations.feature not in shapes:
            raise ValueError(
                f"relations.feature must be one of {list(shapes)}, got {relations.feature!r}"
            )
        for name, given, needed in (
            ("in_channels", relations.in_channels, shapes[relations.feature]),
            ("semantic_channels", relations.to_semantic.out_channels, shapes[self._finest]),
            (
                "instance_channels",
                relations.to_instance.out_channels,
                self.ins_embed_head.center_head[0].in_channels,
            ),
        ):
            if given != needed:
                raise ValueError(f"relations.{name} must be {needed}, got {given}")

    @property
    def _finest(self) -> str:
        return self.sem_seg_head.levels.in_features[0]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def head_features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Compute the features that the semantic head sees last, as of :func:`.compute_fields`."""
        return self._refine(*self._begin(self.backbone(images)))[0]

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Any:
        """Losses in training; otherwise ``sem_seg`` and ``panoptic_seg`` of each picture.

        Args:
            batched_inputs: Detectron2's, in training with :data:`TARGETS`.

        Returns:
            In training the losses, those of the first prediction with names that end in
            ``_initial``. Otherwise ``sem_seg``, (K, H, W) logits, and ``panoptic_seg``, (H, W)
            class * label_divisor + number, -1 where it is void, with None, as Detectron2's.
        """
        targets = self._targets(batched_inputs) if self.training else {}
        images = padded_images(self, batched_inputs)
        first, logits = self._begin(self.backbone(images.tensor))
        last = self._relate(first, logits)
        if not self.training:
            return self._answers(last, batched_inputs, images.image_sizes)
        _, losses = self.sem_seg_head(last.features, targets["sem_seg"], targets["sem_seg_weights"])
        losses |= self._instance_losses(last, targets)
        if self.relations is None or self.initial_loss_weight == 0:
            return losses
        initial = self.sem_seg_head.grid_losses(
            logits, targets["sem_seg"], targets["sem_seg_weights"]
        )
        initial |= self._instance_losses(first, targets)
        weight = self.initial_loss_weight
        return losses | {f"{name}_initial": weight * loss for name, loss in initial.items()}

    def _begin(self, features: Mapping[str, Tensor]) -> tuple[Prediction, Tensor | None]:
        """The first prediction, and logits (B, K, h, w), which only relations need."""
        decoded = DeepLabV3PlusHead.layers(self.ins_embed_head, features)
        prediction = self._predict(features, decoded)
        if self.relations is None:
            return prediction, None
        head = self.sem_seg_head
        logits = head.training_layers(features) if self.training else head.layers(features)
        return prediction, logits

    def _predict(self, features: Mapping[str, Tensor], decoded: Tensor) -> Prediction:
        head = self.ins_embed_head
        centers = head.center_predictor(head.center_head(decoded))
        offsets = head.offset_predictor(head.offset_head(decoded))
        return Prediction(features, decoded, centers, offsets)

    def _relate(self, first: Prediction, logits: Tensor | None) -> Prediction:
        """The last prediction; without relations it is the first."""
        return first if self.relations is None else self._predict(*self._refine(first, logits))

    def _refine(
        self, first: Prediction, logits: Tensor | None
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """What the heads see last: features, and the instance head's decoded ones."""
        relations = self.relations
        if relations is None:
            return first.features, first.decoded
        shares = logits.float().softmax(dim=1)
        masks, scores = instance_maps(
            first.centers.float(),
            first.offsets.float(),
            shares[:, list(self.thing_classes)].sum(dim=1),
            max_instances=relations.max_instances,
            threshold=relations.center_threshold,
            nms_kernel=relations.nms_kernel,
        )
        feature = first.features[relations.feature]
        semantic, instance = relations(feature, shares, masks, scores)
        refined = _add(first.features[self._finest], semantic)
        features = {**first.features, self._finest: refined}
        return features, _add(first.decoded, instance)

    def _instance_losses(
        self, prediction: Prediction, targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        head = self.ins_embed_head
        centers, offsets = targets["center"].unsqueeze(1), targets["offset"]
        return {
            **head.center_losses(prediction.centers, centers, targets["center_weights"]),
            **head.offset_losses(prediction.offsets, offsets, targets["offset_weights"]),
        }

    def _targets(self, batched_inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The targets of a batch, padded as the images are."""
        for one in batched_inputs:
            if missing := [name for name in TARGETS if name not in one]:
                raise ValueError(
                    f"training inputs must have {', '.join(TARGETS)}, but {', '.join(missing)} "
                    "lack: map records by Detectron2's PanopticDeeplabDatasetMapper"
                )
        padding = {"sem_seg": self.sem_seg_head.ignore_value}
        return {
            name: ImageList.from_tensors(
                [one[name].to(self.device) for one in batched_inputs],
                padding_divisor(self),
                padding.get(name, 0),
                self.backbone.padding_constraints,
            ).tensor
            for name in TARGETS
        }

    def _answers(
        self,
        last: Prediction,
        batched_inputs: Sequence[Mapping[str, Any]],
        sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        logits, _ = self.sem_seg_head(last.features)
        stride = self.sem_seg_head.common_stride
        maps = (logits, _grow(last.centers, stride), _grow(last.offsets, stride) * stride)
        answers = []
        for one, size, *of_picture in zip(batched_inputs, sizes, *maps, strict=True):
            height, width = one.get("height", size[0]), one.get("width", size[1])
            sem_seg, centers, offsets = (
                sem_seg_postprocess(each, size, height, width) for each in of_picture
            )
            # In pixels of the answer, where the picture was resized.
            offsets = (
                offsets * offsets.new_tensor([height / size[0], width / size[1]])[:, None, None]
            )
            panoptic, _ = get_panoptic_segmentation(
                sem_seg.argmax(dim=0, keepdim=True),
                centers,
                offsets,
                thing_ids=self.thing_classes,
                label_divisor=self.label_divisor,
                stuff_area=self.stuff_area,
                void_label=_VOID,
                threshold=self.center_threshold,
                nms_kernel=self.nms_kernel,
                top_k=min(self.top_k, height * width),
            )
            answers.append({"sem_seg": sem_seg, "panoptic_seg": (panoptic[0], None)})
        return answers

    @property
    def head_passes(self) -> int:
        """How often the semantic head runs, for :mod:`ifa_d2.analysis.cost`."""
        return 1 if self.relations is None else 2

    def further_parts(self, features: Mapping[str, Tensor]) -> dict[str, Callable[[], Any]]:
        """What runs beside backbone and semantic head, for :mod:`ifa_d2.analysis.cost`."""
        head, relations = self.ins_embed_head, self.relations

        def predict() -> None:
            decoded = DeepLabV3PlusHead.layers(head, features)
            for _ in range(self.head_passes):
                self._predict(features, decoded)

        if relations is None:
            return {"ins_embed_head": predict}
        finest = features[self._finest]
        num_classes, slots = self.sem_seg_head.num_classes, relations.max_instances
        slots = min(slots, finest.shape[2] * finest.shape[3])
        return {
            "ins_embed_head": predict,
            "relations": partial(
                relations,
                features[relations.feature],
                finest.new_empty((len(finest), num_classes, *finest.shape[2:])),
                finest.new_empty((len(finest), slots, *finest.shape[2:])),
                finest.new_empty((len(finest), slots)),
            ),
        }


def _add(x: Tensor, residual: Tensor) -> Tensor:
    """``x`` and a residual (B, C, h, w) of another size."""
    return x + F.interpolate(residual, x.shape[-2:], mode="bilinear", align_corners=False)


def _grow(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
