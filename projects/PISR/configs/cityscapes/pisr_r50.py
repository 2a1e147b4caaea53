"""PISR on Cityscapes: panoptic_deeplab_r50.py with relations.

`train.init_checkpoint` may name weights of that base, which it then begins as.
"""

from ..common.relations import relations as _relations
from .panoptic_deeplab_r50 import dataloader, inference, lr_multiplier, model, optimizer, train

model.relations = _relations
