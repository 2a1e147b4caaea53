"""IFA on four blocks of a frozen DINOv3 ViT-S/16 of timm, all of stride 16."""

from .ifa_dinov2_s import model

model.backbone.model_name = "vit_small_patch16_dinov3"
for shape in model.sem_seg_head.levels.input_shape.values():
    shape.stride = 16
