"""IFA on a ResNet-50 with the training of Sec. 4.1; the paper has no figure of it.

Expects Detectron2's ImageNet weights of a ResNet-50 with a deep stem, which it downloads.
"""

from ..common.data.ade20k import dataloader
from ..common.inference import inference
from ..common.models.ifa_r50 import model
from ..common.optim import lr_multiplier, optimizer
from ..common.train import train

model.sem_seg_head.num_classes = 150
optimizer.lr = 0.004
optimizer.weight_decay = 1e-4
train.update(
    init_checkpoint="detectron2://DeepLab/R-52.pkl",
    max_iter=150_000,
    batch_size=16,
    eval_period=15_000,
)
train.checkpointer.period = 5000
