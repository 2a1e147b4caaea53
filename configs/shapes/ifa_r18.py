"""R-18 with IFA on the drawn scenes, from scratch: minutes on two CPU cores."""

from ..common.data.shapes import dataloader
from ..common.inference import inference
from ..common.models.ifa_r18 import model
from ..common.optim import adamw as optimizer
from ..common.optim import lr_multiplier
from ..common.train import train

model.sem_seg_head.num_classes = 13
# Trains every offset, so that any resolution can be asked; the paper has "grid" and False.
model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
lr_multiplier.warmup_iters = 20
train.update(max_iter=800, batch_size=4, seed=1, eval_period=0)
