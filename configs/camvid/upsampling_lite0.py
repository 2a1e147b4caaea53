"""The Lite0 of ifa_lite0.py with the up-sampling module in place of IFA, all else the same."""

from .ifa_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.alignment = "upsampling"
