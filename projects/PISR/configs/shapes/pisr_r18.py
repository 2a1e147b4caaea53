"""PISR on the drawn scenes: panoptic_deeplab_r18.py with relations, of half the usual width.

The relations' feature is res4, as res5 has 4 x 6 cells here.
"""

from ..common.relations import relations as _relations
from .panoptic_deeplab_r18 import dataloader, inference, lr_multiplier, model, optimizer, train

model.relations = _relations
model.relations.update(
    feature="res4",
    in_channels="${..sem_seg_head.levels.input_shape.res4.channels}",
    channels=128,
    key_channels=64,
)
