"""IFA on an EfficientNet-Lite0 with ImageNet weights, 3.0 M parameters.

Recipes set model.sem_seg_head.num_classes. The weights come with requirements.txt, as
``timm-package://tf_efficientnet_lite0``.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling import SemanticSegmentor

from ifa_d2.modeling import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std

from .ifa_head import sem_seg_head

model = L(SemanticSegmentor)(
    # It has 16 channels at stride 2 too: out_features=("stem", "res2", ...) with five of them.
    backbone=L(TimmBackbone)(model_name="tf_efficientnet_lite0", norm="BN", pretrained=True),
    sem_seg_head=sem_seg_head,
    pixel_mean=L(pretrained_pixel_mean)(model_name="${..backbone.model_name}"),
    pixel_std=L(pretrained_pixel_std)(model_name="${..backbone.model_name}"),
)
for level, channels in {"res2": 24, "res3": 40, "res4": 112, "res5": 320}.items():
    model.sem_seg_head.levels.input_shape[level].channels = channels
model.sem_seg_head.levels.channels = [128, 128, 128, 128]
# Of what oscillates within a pixel, no pixel was ever a training sample.
model.sem_seg_head.alignment.update(hidden_dims=[256, 128], integrated_encoding=True)
model.sem_seg_head.aux_heads[0].channels = 64
