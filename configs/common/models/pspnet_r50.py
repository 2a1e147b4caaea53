"""PSPNet on a ResNet-50 of output stride 32, with IFA in place of its bilinear alignment.

``model.sem_seg_head.alignment=bilinear`` is PSPNet, which was published with
``model.backbone.output_stride=8``; ``model.sem_seg_head.decoder=pointwise`` puts a field in place
of its convolution too.
"""

from .ifa_r50 import model

model.sem_seg_head.update(
    in_features=("res5",),
    projections=("pyramid_pooling",),
    channels=512,
    decoder="conv",
    hidden_dims=(512,),
)
