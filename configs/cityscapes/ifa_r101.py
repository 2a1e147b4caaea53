"""IFA on a ResNet-101 (Table 5).

Expects Detectron2's ImageNet weights of a ResNet-101 with a deep stem, which it downloads.
"""

from ..common.models.ifa_r101 import model
from .ifa_r50 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 19
train.init_checkpoint = "detectron2://DeepLab/R-103.pkl"
