"""X-Distill on the drawn films: monodepth_lite0.py with a teacher.

The teacher's labels are the exact ones, which no trained teacher has: an upper bound of teachers.
Others are named by dataloader.train.mapper.teacher_root.
"""

from ifa_d2.data.shapes import CLASSES as _classes

from ..common.teacher import add_teacher as _add_teacher
from .monodepth_lite0 import dataloader, lr_multiplier, model, optimizer, train

_add_teacher(
    model,
    dataloader.train.mapper,
    root="$DETECTRON2_DATASETS/xdistill_shapes/train/labels",
    classes=_classes,
    groups=dict(
        sky=("sky",),
        flat=("road", "pavement"),
        structure=("building", "window", "fence"),
        vegetation=("tree",),
        slim=("pole", "wire", "sign", "person"),
        vehicle=("car", "bicycle"),
    ),
    loss_weight=0.005,
)
