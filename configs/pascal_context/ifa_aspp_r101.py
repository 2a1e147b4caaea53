"""IFA* on a ResNet-101 (Table 6). Expects the weights of ifa_r101.py."""

from .ifa_r101 import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.aspp_dilations = (12, 24, 36)
