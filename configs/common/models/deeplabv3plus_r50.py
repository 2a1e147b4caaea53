"""DeepLabV3+ on a ResNet-50 of output stride 32, with IFA in place of its bilinear alignment.

``ifa_d2.modeling.use_alignment(model.sem_seg_head, "bilinear")`` makes it DeepLabV3+ as Detectron2
has it (its decoder's convolutions are not depthwise).
"""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import AlignedLevels, ConvDecoder, DeepLabASPP

from .ifa_r50 import model

model.sem_seg_head.levels.update(
    in_features=["res2", "res5"],
    channels=[48, 256],
    projections=dict(
        res5=L(DeepLabASPP)(
            in_channels="${...input_shape.res5.channels}",
            out_channels=256,
            dilations=[6, 12, 18],
            norm="${...norm}",
        )
    ),
    grid_decoder=L(ConvDecoder)(
        align=L(AlignedLevels)(in_channels="${...channels}"), dims=[256], norm="${..norm}"
    ),
)
# The decoder's second convolution, of 3x3 cells.
model.sem_seg_head.alignment.update(
    in_channels=[256], hidden_dims=[256], encoding="none", unfold=True, local_ensemble=True
)
