"""IFA on four blocks of a frozen DINOv2 ViT-S/14 of timm, all of stride 14.

Recipes set model.sem_seg_head.num_classes.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .ifa_convnext_t import model

BLOCKS = (2, 5, 8, 11)
NAMES = tuple(f"block{index + 1}" for index in BLOCKS)

model.backbone.update(
    model_name="vit_small_patch14_dinov2",
    out_features=NAMES,
    out_indices=BLOCKS,
    frozen=True,
)
model.sem_seg_head.levels.input_shape = {
    name: L(ShapeSpec)(channels=384, stride=14) for name in NAMES
}
model.sem_seg_head.aux_heads = []
