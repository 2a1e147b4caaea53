"""IFA* on a ResNet-18 (Table 5). Expects the weights of ifa_r18.py.

The paper does not say how its ASPP is fused on a ResNet-18. A 1x1 convolution to res5's own 512
channels before the usual projection has the table's parameters and multiply-adds; the 3x3
convolution of ifa_aspp_r101.py would have 18.9 M parameters, not 16.8 M.
"""

from ..common.models.aspp import projections as _projections
from .ifa_r18 import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.levels.projections = _projections
model.sem_seg_head.levels.projections.res5.fuse_channels = 512
