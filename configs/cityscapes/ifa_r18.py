"""IFA on a ResNet-18 (Table 5).

Expects ImageNet weights of a ResNet-18 with a stem of 32, 32 and 64 channels in
pretrained/resnet18_v1c.pth. Make that file by

    python tools/convert_imagenet_checkpoint.py \
        https://download.openmmlab.com/pretrain/third_party/resnet18_v1c-b5776b93.pth \
        pretrained/resnet18_v1c.pth
"""

from ..common.models.ifa_r18 import model
from .ifa_r50 import dataloader, inference, lr_multiplier, optimizer, train

model.backbone.norm = "SyncBN"
model.sem_seg_head.num_classes = 19
model.sem_seg_head.alignment.hidden_dims = [512, 256]
train.init_checkpoint = "pretrained/resnet18_v1c.pth"
