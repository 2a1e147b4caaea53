"""IFA* on a ResNet-101 (Table 7). Expects the weights of ifa_r101.py."""

from ..common.models.aspp import projections as _projections
from .ifa_r101 import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.levels.projections = _projections
