"""DeepLab V3+ of stride 128 with IFA (Table 3)."""

from .deeplabv3plus_32_ifa import model

model.backbone.res2_pool = 4
for level in ("res3", "res4", "res5"):
    model.sem_seg_head.input_shape[level].stride *= 4
