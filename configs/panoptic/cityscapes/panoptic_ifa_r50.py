"""Panoptic FPN with IFA in place of its semantic head."""

from ..common.panoptic_ifa import model
from .panoptic_fpn_r50 import dataloader, inference, lr_multiplier, optimizer, train

model.roi_heads.num_classes = 8
model.sem_seg_head.num_classes = 12
