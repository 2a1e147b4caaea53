"""X-Distill on KITTI's drives: monodepth_lite0.py with a teacher of Cityscapes' classes.

The teacher's labels are to be written into the folder that teacher_root names. Not trained here.
"""

from detectron2.data import MetadataCatalog as _MetadataCatalog

from ..common.teacher import add_teacher as _add_teacher
from .monodepth_lite0 import dataloader, lr_multiplier, model, optimizer, train

_add_teacher(
    model,
    dataloader.train.mapper,
    root="$DETECTRON2_DATASETS/kitti_teacher",
    classes=_MetadataCatalog.get("cityscapes_fine_sem_seg_train").stuff_classes,
    groups=dict(
        sky=("sky",),
        flat=("road", "sidewalk", "terrain"),
        structure=("building", "wall", "fence"),
        vegetation=("vegetation",),
        slim=("pole", "traffic light", "traffic sign", "person"),
        vehicle=("rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    loss_weight=0.005,
)
