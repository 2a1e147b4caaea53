"""R-18 with IFA on CamVid, from scratch."""

from ..common.data.camvid import dataloader
from ..common.models.ifa_r18 import model
from ..common.optim import lr_multiplier, optimizer
from ..common.train import train

model.sem_seg_head.num_classes = 11
# From scratch all layers are new: one rate for all.
optimizer.lr = 0.05
optimizer.params.head_lr_factor = 1.0
lr_multiplier.warmup_iters = 50
train.update(max_iter=1200, batch_size=8, seed=1, eval_period=300)
