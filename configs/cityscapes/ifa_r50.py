"""IFA on a ResNet-50 (Sec. 4.1, Table 1).

Expects Detectron2's ImageNet weights of a ResNet-50 with a deep stem, which it downloads.
"""

from ..common.data.cityscapes import dataloader
from ..common.inference import inference
from ..common.models.ifa_r50 import model
from ..common.optim import lr_multiplier, optimizer
from ..common.train import train

model.sem_seg_head.num_classes = 19
inference.update(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0), window=(769, 769))
train.update(
    init_checkpoint="detectron2://DeepLab/R-52.pkl",
    max_iter=18_000,
    batch_size=16,
    eval_period=3000,
)
train.checkpointer.period = 3000
