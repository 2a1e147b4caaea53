"""R-50 with IFA on CamVid, from scratch, for a GPU."""

from ..common.models.ifa_r50 import model
from .ifa_r18 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 11
# Trains every offset, so that any resolution can be asked; the paper has "grid" and False.
model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
# One process computes its statistics alone; "SyncBN" for several GPUs.
model.backbone.norm = "BN"
train.update(max_iter=4000, batch_size=16, eval_period=500)
