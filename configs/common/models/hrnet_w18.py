"""HRNet-W18 with IFA in place of its bilinear alignment.

``ifa_d2.modeling.use_alignment(model.sem_seg_head, "bilinear")`` makes it HRNetV2 as it was
published: its four branches upsampled and concatenated, a 1x1 convolution over as many channels,
the classifier.
"""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import IdentityProjection, TimmBackbone

from .ifa_r50 import model

WIDTH = 18

model.backbone = L(TimmBackbone)(
    model_name="hrnet_w18",
    norm="SyncBN",
    # The branches as they are, without the layers of its classifier of images.
    model_options=dict(feature_location=""),
)
for index, level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.levels.input_shape[level].channels = WIDTH * 2**index
model.sem_seg_head.levels.update(
    channels=[WIDTH * 2**index for index in range(4)],
    projections={
        level: L(IdentityProjection)(in_channels=f"${{...input_shape.{level}.channels}}")
        for level in ("res2", "res3", "res4", "res5")
    },
)
model.sem_seg_head.alignment.hidden_dims = [15 * WIDTH]
model.sem_seg_head.aux_heads = []
