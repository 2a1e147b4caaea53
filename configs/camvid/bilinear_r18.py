"""The R-18 of ifa_r18.py with bilinear alignment in place of IFA, all else the same."""

from .ifa_r18 import dataloader, inference, lr_multiplier, model, optimizer, train

model.sem_seg_head.alignment = "bilinear"
