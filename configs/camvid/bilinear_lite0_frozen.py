"""The frozen Lite0 of ifa_lite0_frozen.py with bilinear alignment, all else the same."""

from .ifa_lite0_frozen import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.alignment = "bilinear"
