"""R-18 with IFA on the drawn scenes, from scratch: minutes on two CPU cores."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.data.shapes import dataloader
from ..common.inference import inference
from ..common.models.ifa_r18 import model
from ..common.optim import adamw as optimizer
from ..common.optim import lr_multiplier
from ..common.train import train

model.sem_seg_head.num_classes = 13
# Asked at points, most of them near boundaries and of each class alike, so that any resolution can
# be asked. The paper has "grid" and False.
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
model.sem_seg_head.alignment.local_ensemble = True
dataloader.train.mapper.update(num_points=1536, point_sampling="balanced_boundary")
lr_multiplier.warmup_iters = 1 / 40
train.update(max_iter=800, batch_size=4, seed=1, eval_period=0)
