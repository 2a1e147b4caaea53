"""R-18 with IFA on CamVid, from scratch: under half an hour on two CPU cores."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.data.camvid import dataloader
from ..common.inference import inference
from ..common.models.ifa_r18 import model
from ..common.optim import adamw as optimizer
from ..common.optim import lr_multiplier
from ..common.train import train

model.sem_seg_head.num_classes = 11
# Asked at points, most of them of each class alike, so that any resolution can be asked. The paper
# has GridTargets and False.
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
model.sem_seg_head.alignment.local_ensemble = True
dataloader.train.mapper.update(num_points=4800, point_sampling="class_balanced")
lr_multiplier.warmup_iters = 1 / 32
train.update(max_iter=1600, batch_size=4, seed=1, eval_period=400)
