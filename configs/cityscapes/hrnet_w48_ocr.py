"""HRNet-W48 with OCR, with IFA in place of its bilinear alignment (Table 2).

``use_alignment(model.sem_seg_head, "bilinear")`` makes it HRNet-OCR. Data and schedule are those of
``ifa_r50.py``; timm downloads the ImageNet weights, ``model.backbone.pretrained=False`` trains from
scratch.
"""

from ..common.models.hrnet_w48_ocr import model
from .ifa_r50 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 19
model.backbone.pretrained = True
train.init_checkpoint = ""
