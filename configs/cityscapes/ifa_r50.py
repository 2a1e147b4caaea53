"""IFA on a ResNet-50 for the 19 classes of Cityscapes (Sec. 4.1)."""

from ..common.models.ifa_r50 import model
from ..common.optim import lr_multiplier, optimizer
from ..common.train import train

model.sem_seg_head.num_classes = 19
train.update(max_iter=18_000, batch_size=16)
