"""IFA over the pyramid's p2 to p5, as wide as the head that it replaces, and cheaper.

As of that head: 128 channels, all pixels count in the loss, there is no auxiliary head. The paper's
widths (channels 256, hidden layers of 512 and 256) fit too, but cost more time than that head.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from ...common.models.ifa_head import sem_seg_head as _sem_seg_head
from .panoptic_fpn import model

_levels = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

model.sem_seg_head = _sem_seg_head
model.sem_seg_head.update(num_classes=54, aux_heads=[], loss_weight=0.5)
model.sem_seg_head.levels.update(
    input_shape={
        name: L(ShapeSpec)(stride=stride, channels="${.....backbone.out_channels}")
        for name, stride in _levels.items()
    },
    channels=[128, 128, 128, 128],
    norm="SyncBN",
)
model.sem_seg_head.alignment.hidden_dims = [256, 128]
model.sem_seg_head.criterion.threshold = 1.0
