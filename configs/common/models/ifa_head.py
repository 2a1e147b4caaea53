"""The head of the recipes, over features res2 to res5 as a ResNet-18 has them.

Recipes set num_classes, and channels of input_shape as their backbone's. All norms are the
backbone's, and so is ``levels.norm``, which the others follow.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from omegaconf import MISSING

from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import (
    AuxiliaryHead,
    FeatureLevels,
    GridTargets,
    IFASemSegHead,
    OhemCrossEntropy,
    norm_factory,
)

sem_seg_head = L(IFASemSegHead)(
    num_classes=MISSING,
    levels=L(FeatureLevels)(
        input_shape={
            "res2": L(ShapeSpec)(channels=64, stride=4),
            "res3": L(ShapeSpec)(channels=128, stride=8),
            "res4": L(ShapeSpec)(channels=256, stride=16),
            "res5": L(ShapeSpec)(channels=512, stride=32),
        },
        channels=[256, 256, 256, 256],
        norm="${...backbone.norm}",
    ),
    alignment=L(ImplicitAlignment)(
        in_channels="${..levels.channels}",
        num_classes="${..num_classes}",
        hidden_dims=[512, 256, 256],
        norm=L(norm_factory)(name="${...levels.norm}"),
    ),
    targets=L(GridTargets)(),
    criterion=L(OhemCrossEntropy)(threshold=0.7, min_kept=100_000, ignore_value=255),
    aux_heads=[
        L(AuxiliaryHead)(
            feature="res4",
            in_channels="${...levels.input_shape.res4.channels}",
            channels=256,
            num_classes="${...num_classes}",
            norm="${...levels.norm}",
        )
    ],
    loss_weight=1.0,
    aux_loss_weight=0.4,
)
