"""The Lite0 of ifa_lite0.py with bilinear alignment in place of IFA, all else the same."""

from ifa_d2.modeling import use_alignment

from .ifa_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

use_alignment(model.sem_seg_head, "bilinear")
