"""ConvNeXt-T, whose weights timm downloads, with IFA on CamVid, for a GPU; not trained."""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import FieldSegmentor, PointTargets

from ..common.models.ifa_convnext_t import model
from .ifa_lite0 import dataloader, inference, lr_multiplier, optimizer, train

model.sem_seg_head.num_classes = 11
# Asked at points, most of them of each class alike, so that any resolution can be asked.
model._target_ = FieldSegmentor
model.sem_seg_head.targets = L(PointTargets)()
model.sem_seg_head.alignment.local_ensemble = True
optimizer.lr = 1e-4
optimizer.params.head_lr_factor = 10.0
train.update(max_iter=4000, batch_size=16, eval_period=500)
