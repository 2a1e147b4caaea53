"""Panoptic FPN with IFA in place of its semantic head, on a ResNet-101."""

from .panoptic_ifa_r50 import dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
