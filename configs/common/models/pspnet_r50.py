"""PSPNet on a ResNet-50 of output stride 32, with IFA in place of its bilinear alignment.

``ifa_d2.modeling.use_alignment(model.sem_seg_head, "bilinear")`` makes it PSPNet, which was
published with ``model.backbone.output_stride=8``.
"""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import AlignedLevels, ConvDecoder, PyramidPooling

from .ifa_r50 import model

model.sem_seg_head.levels.update(
    in_features=["res5"],
    channels=[512],
    projections=dict(
        res5=L(PyramidPooling)(
            in_channels="${...input_shape.res5.channels}", out_channels=512, norm="${...norm}"
        )
    ),
    grid_decoder=L(ConvDecoder)(
        align=L(AlignedLevels)(in_channels=[2048, 512, 512, 512, 512]), dims=[], norm="${..norm}"
    ),
)
# Its convolution of 3x3 cells, of the levels and their positions.
model.sem_seg_head.alignment.update(
    in_channels=[4226], hidden_dims=[512], encoding="none", unfold=True, local_ensemble=True
)
