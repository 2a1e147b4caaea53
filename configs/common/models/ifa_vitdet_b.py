"""IFA on Detectron2's ViT-B with a simple feature pyramid, as ViTDet has it.

Recipes set model.sem_seg_head.num_classes.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor, SimpleFeaturePyramid, ViT

from .ifa_head import sem_seg_head

LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}

model = L(SemanticSegmentor)(
    backbone=L(SimpleFeaturePyramid)(
        net=L(ViT)(
            img_size=1024,
            patch_size=16,
            embed_dim=768,
            depth=12,
            num_heads=12,
            drop_path_rate=0.1,
            window_size=14,
            # The others attend to the whole picture.
            window_block_indexes=(0, 1, 3, 4, 6, 7, 9, 10),
            use_rel_pos=True,
            out_feature="last_feat",
        ),
        in_feature="${.net.out_feature}",
        out_channels=256,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        norm="LN",
        square_pad=0,  # pictures keep their shape
    ),
    sem_seg_head=sem_seg_head,
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
)
model.sem_seg_head.levels.input_shape = {
    name: L(ShapeSpec)(channels=256, stride=stride) for name, stride in LEVELS.items()
}
model.sem_seg_head.aux_heads = []
