"""IFA on a ResNet-50 with a deep stem and a dilated res5, as in Table 1 of the paper."""

from .ifa_r18 import model

model.backbone.depth = 50
model.backbone.norm = "SyncBN"
model.backbone.stem_channels = 128
model.backbone.res5_multi_grid = (2, 2, 4)
for index, level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.levels.input_shape[level].channels = 256 * 2**index
model.sem_seg_head.aux_heads[0].channels = 256
