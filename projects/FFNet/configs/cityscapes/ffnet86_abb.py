"""FFNet 86 A-B-B on Cityscapes, from scratch.

Published ImageNet weights, converted by projects/FFNet/convert_ffnet_weights.py, are what
train.init_checkpoint=FILE starts from.
"""

from ..common.cityscapes import dataloader, inference, lr_multiplier, optimizer, train
from ..common.ffnet import ffnet_model

model = ffnet_model("86_ABB", norm="SyncBN")
model.sem_seg_head.num_classes = 19
