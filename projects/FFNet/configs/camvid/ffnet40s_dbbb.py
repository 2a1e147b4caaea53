"""FFNet 40S d-B-B-B on CamVid, from scratch."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.camvid import dataloader, inference, lr_multiplier, optimizer, train
from ..common.ffnet import ffnet_model

model = ffnet_model("40S_dBBB")
model.sem_seg_head.num_classes = 11
# Trained at points, as the IFA head of the recipe beside it.
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
