"""IFA on a ResNet-101 with a deep stem and a dilated res5, as in Tables 5 to 7 of the paper."""

from .ifa_r50 import model

model.backbone.depth = 101
model.sem_seg_head.alignment.hidden_dims = [512, 256]
