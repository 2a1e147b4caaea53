"""EfficientNet-Lite0 with ImageNet weights and IFA on CrackForest."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.data.crackforest import dataloader
from ..common.inference import inference
from ..common.models.ifa_lite0 import model
from ..common.optim import adamw as optimizer
from ..common.optim import lr_multiplier
from ..common.train import train

model.sem_seg_head.num_classes = 2
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
model.sem_seg_head.alignment.local_ensemble = True
dataloader.train.mapper.update(num_points=4800, point_sampling="class_balanced")
# The heads, which start from nothing, at five times the backbone's rate.
optimizer.lr = 2e-4
optimizer.params.head_lr_factor = 5.0
lr_multiplier.warmup_iters = 1 / 16
train.update(max_iter=800, batch_size=4, seed=1, eval_period=400)
