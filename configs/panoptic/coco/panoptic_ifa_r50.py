"""Panoptic FPN with IFA in place of its semantic head."""

from ..common.panoptic_ifa import model
from .panoptic_fpn_r50 import dataloader, inference, lr_multiplier, optimizer, train
