"""IFA over the pyramid's p2 to p5, as wide as the head that it replaces, and cheaper.

As of that head: 128 channels, all pixels count in the loss, there is no auxiliary head. The paper's
widths (channels 256, hidden layers of 512 and 256) fit too, but cost more time than that head.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from ifa_d2.modeling import IFASemSegHead

from .panoptic_fpn import model

_levels = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

model.sem_seg_head = L(IFASemSegHead)(
    input_shape={
        name: L(ShapeSpec)(stride=stride, channels="${....backbone.out_channels}")
        for name, stride in _levels.items()
    },
    in_features=tuple(_levels),
    num_classes=54,
    channels=128,
    hidden_dims=(256, 128),
    norm="SyncBN",
    ohem_threshold=1.0,
    aux_feature=None,
    loss_weight=0.5,
)
