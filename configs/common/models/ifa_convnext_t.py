"""IFA on a ConvNeXt-T of timm. Recipes set model.sem_seg_head.num_classes."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SemanticSegmentor

from ifa_d2.modeling import TimmBackbone, pretrained_pixel_mean, pretrained_pixel_std

from .ifa_head import sem_seg_head

model = L(SemanticSegmentor)(
    backbone=L(TimmBackbone)(model_name="convnext_tiny", norm="BN", pretrained=True),
    sem_seg_head=sem_seg_head,
    pixel_mean=L(pretrained_pixel_mean)(model_name="${..backbone.model_name}"),
    pixel_std=L(pretrained_pixel_std)(model_name="${..backbone.model_name}"),
)
for index, level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.levels.input_shape[level].channels = 96 * 2**index
