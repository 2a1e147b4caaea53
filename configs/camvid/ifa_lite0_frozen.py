"""IFA on CamVid over the ImageNet features of an EfficientNet-Lite0 as they are.

Its checkpoints hold the head alone, and the address of the backbone's weights.
"""

from .ifa_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.frozen = True
# It would teach the backbone.
model.sem_seg_head.aux_heads = []
