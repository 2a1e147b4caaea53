"""IFA on a ResNet-50 with the training of Sec. 4.1; the paper has no figure of it.

60 classes, with the background. For 59, where it is ignored:
model.sem_seg_head.num_classes=59, dataloader.train.dataset.names=pascal_context_59_train and
dataloader.test.dataset.names=pascal_context_59_val. Expects Detectron2's ImageNet weights of a
ResNet-50 with a deep stem, which it downloads.
"""

from ..common.data.pascal_context import dataloader
from ..common.inference import inference
from ..common.models.ifa_r50 import model
from ..common.optim import lr_multiplier, optimizer
from ..common.train import train

model.sem_seg_head.num_classes = 60
optimizer.lr = 0.001
optimizer.weight_decay = 1e-4
train.update(
    init_checkpoint="detectron2://DeepLab/R-52.pkl",
    max_iter=30_000,
    batch_size=16,
    eval_period=5000,
)
train.checkpointer.period = 5000
