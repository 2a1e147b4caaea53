"""PISR on a small network of random weights, which finds instances in noise."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem
from panoptic_deeplab import build_instance_head
from panoptic_relations import PanopticRelations
from pisr_deeplab import PISRPanopticDeepLab
from torch import Tensor

from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import FeatureLevels, IFAPanopticDeepLabHead, norm_factory

THINGS = (2, 4)
SHAPES = {"res2": ShapeSpec(channels=8, stride=4), "res3": ShapeSpec(channels=12, stride=8)}


def tiny_relations(**changes: Any) -> PanopticRelations:
    torch.manual_seed(4)
    options = {"feature": "res3", "in_channels": 12, "semantic_channels": 8}
    options |= {"instance_channels": 6, "channels": 16, "key_channels": 8, "num_heads": 2}
    return PanopticRelations(**{**options, "max_instances": 12, **changes})


def tiny_model(
    relations: PanopticRelations | None = None, *, biased: bool = True, **changes: Any
) -> PISRPanopticDeepLab:
    """The model in eval mode; of the same weights each time, but for the relations'.

    Args:
        relations: None is the base.
        biased: let centres be likely enough to be found.
        changes: of the model's arguments.
    """
    torch.manual_seed(0)
    stages = [
        ResNet.make_stage(
            BasicBlock,
            num_blocks=1,
            in_channels=in_channels,
            out_channels=out_channels,
            stride_per_block=[stride],
            norm="BN",
        )
        for in_channels, out_channels, stride in ((4, 8, 1), (8, 12, 2))
    ]
    backbone = ResNet(BasicStem(3, 4, norm="BN"), stages, out_features=["res2", "res3"])
    levels = FeatureLevels(input_shape=SHAPES, channels=8)
    alignment = ImplicitAlignment(
        in_channels=[8, 8], num_classes=5, hidden_dims=[8], norm=norm_factory("BN")
    )
    head = IFAPanopticDeepLabHead(num_classes=5, levels=levels, alignment=alignment)
    instances = build_instance_head(
        input_shape=SHAPES,
        in_features=["res2", "res3"],
        project_channels=[4],
        decoder_channels=[6, 8],
        head_channels=5,
        aspp_dilations=[1, 2, 3],
        aspp_dropout=0.1,
        common_stride=4,
        norm="BN",
        train_size=None,
        center_loss_weight=1.0,
        offset_loss_weight=0.01,
    )
    with torch.no_grad():
        alignment.predictor.weight.normal_(std=0.5)
        if biased:
            instances.center_predictor.weight.normal_(std=0.3)
            instances.center_predictor.bias.fill_(0.2)
            instances.offset_predictor.weight.normal_(std=0.5)
    options = {"pixel_mean": [120.0] * 3, "pixel_std": [60.0] * 3, "stuff_area": 20}
    model = PISRPanopticDeepLab(
        backbone=backbone,
        sem_seg_head=head,
        ins_embed_head=instances,
        relations=relations,
        **{"thing_classes": THINGS, **options, **changes},
    )
    return model.eval()


def related(model: PISRPanopticDeepLab) -> PISRPanopticDeepLab:
    """The model with residuals that are not 0 any more."""
    with torch.no_grad():
        for part in (model.relations.to_semantic, model.relations.to_instance):
            part.weight.normal_(std=0.5)
    return model


def inputs(
    *size: int, targets: bool = False, things: bool = True, seed: int = 1
) -> list[dict[str, Any]]:
    """Two pictures of noise, with the targets of a few instances or of none."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for _ in range(2):
        image = torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
        one: dict[str, Any] = {"image": image, "height": size[0], "width": size[1]}
        if targets:
            one |= _targets(size, generator, things)
        batch.append(one)
    return batch


def _targets(
    size: tuple[int, ...], generator: torch.Generator, things: bool
) -> Mapping[str, Tensor]:
    label = torch.randint(2, size, generator=generator)
    center, has_thing = torch.zeros(size), torch.zeros(1, *size)
    if things:
        label[: size[0] // 2, : size[1] // 2] = THINGS[0]
        center[size[0] // 4, size[1] // 4] = 1.0
        has_thing[0, : size[0] // 2, : size[1] // 2] = 1.0
    return {
        "sem_seg": label,
        "sem_seg_weights": torch.ones(size),
        "center": center,
        "center_weights": torch.ones(1, *size),
        "offset": torch.randn(2, *size, generator=generator) * has_thing,
        "offset_weights": has_thing,
    }
