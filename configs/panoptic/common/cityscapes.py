"""Cityscapes panoptic in the same form: 8 things, and 11 stuff classes beside "things".

Sizes, batch, rate and schedule are those of Detectron2's `Cityscapes/mask_rcnn_R_50_FPN`.
"""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from ifa_d2.data import PanopticInstanceMapper

from .coco import dataloader, inference, optimizer, train

_edges = (800, 832, 864, 896, 928, 960, 992, 1024)

dataloader.train.dataset.names = "cityscapes_fine_panoptic_train_separated"
# Instances are read from the panoptic pictures.
dataloader.train.mapper.update(_target_=PanopticInstanceMapper, instance_mask_format="bitmask")
dataloader.train.mapper.augmentations[0].update(short_edge_length=_edges, max_size=2048)
dataloader.test.dataset.names = "cityscapes_fine_panoptic_val_separated"
dataloader.test.mapper.augmentations[0].update(short_edge_length=1024, max_size=2048)
optimizer.lr = 0.01
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[18_000, 24_000]),
    warmup_length=1000 / 24_000,
    warmup_method="linear",
    warmup_factor=0.001,
)
train.update(max_iter=24_000, batch_size=8, eval_period=3000)
train.checkpointer.period = 3000
