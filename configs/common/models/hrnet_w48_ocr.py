"""HRNet-W48 with object-contextual representations, and IFA in place of its bilinear alignment.

``ifa_d2.modeling.use_alignment(model.sem_seg_head, "bilinear")`` makes it HRNet-OCR as it was
published.
"""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import AlignedLevels, ObjectContextDecoder

from .hrnet_w18 import model

WIDTH = 48

model.backbone.model_name = "hrnet_w48"
for index, level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.levels.input_shape[level].channels = WIDTH * 2**index
model.sem_seg_head.levels.update(
    channels=[WIDTH * 2**index for index in range(4)],
    grid_decoder=L(ObjectContextDecoder)(
        align=L(AlignedLevels)(in_channels="${...channels}"),
        num_classes="${...num_classes}",
        channels=512,
        norm="${..norm}",
    ),
)
model.sem_seg_head.alignment.update(
    in_channels=[512, 512], hidden_dims=[512], encoding="none", local_ensemble=True
)
