"""R-50 with IFA on CamVid, from scratch, for a GPU."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.models.ifa_r50 import model
from .ifa_r18 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 11
# Asked at points, most of them of each class alike, so that any resolution can be asked. The paper
# has GridTargets and False.
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
model.sem_seg_head.alignment.local_ensemble = True
# One process computes its statistics alone; "SyncBN" for several GPUs.
model.backbone.norm = "BN"
train.update(max_iter=4000, batch_size=16, eval_period=500)
