"""EfficientNet-Lite0 with ImageNet weights and IFA on CamVid, with a level of stride 2.

Which tells pixels apart where the level of stride 4 does not (projects/IFA/ALIGNMENTS.md).
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .ifa_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.update(
    out_features=["stem", "res2", "res3", "res4", "res5"], out_indices=[0, 1, 2, 3, 4]
)
model.sem_seg_head.levels.update(
    in_features=["stem", "res2", "res3", "res4", "res5"], channels=[128, 128, 128, 128, 128]
)
model.sem_seg_head.levels.input_shape["stem"] = L(ShapeSpec)(channels=16, stride=2)
# Classes by the root of their pixels: fully alike, rare ones are predicted too often.
dataloader.train.mapper.point_balance = 0.5
train.update(max_iter=2000, ema=dict(decay=0.998))
