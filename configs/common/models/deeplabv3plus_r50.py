"""DeepLabV3+ on a ResNet-50 of output stride 32, with IFA in place of its bilinear alignment.

``model.sem_seg_head.alignment=bilinear`` is DeepLabV3+ as Detectron2 has it (its decoder's
convolutions are not depthwise), ``model.sem_seg_head.decoder=pointwise`` puts a field in place of
those convolutions too.
"""

from .ifa_r50 import model

model.sem_seg_head.update(
    in_features=("res2", "res5"),
    projections=("pointwise", "aspp"),
    channels=(48, 256),
    aspp_dilations=(6, 12, 18),
    decoder="conv",
    hidden_dims=(256, 256),
)
