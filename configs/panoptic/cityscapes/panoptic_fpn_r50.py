"""Panoptic FPN with its own semantic head, the baseline (Kirillov et al. 2019).

Expects Detectron2's ImageNet weights of a ResNet-50, which it downloads.
"""

from ..common.cityscapes import dataloader, inference, lr_multiplier, optimizer, train
from ..common.panoptic_fpn import model

model.roi_heads.num_classes = 8
model.sem_seg_head.num_classes = 12
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
