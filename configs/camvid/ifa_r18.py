"""R-18 with IFA on CamVid, from scratch: under half an hour on two CPU cores."""

from ..common.data.camvid import dataloader
from ..common.inference import inference
from ..common.models.ifa_r18 import model
from ..common.optim import adamw as optimizer
from ..common.optim import lr_multiplier
from ..common.train import train

model.sem_seg_head.num_classes = 11
# Trains every offset, so that any resolution can be asked; the paper has "grid" and False.
model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
lr_multiplier.warmup_iters = 50
train.update(max_iter=1600, batch_size=4, seed=1, eval_period=400)
