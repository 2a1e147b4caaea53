"""FPN of stride 64 with IFA (Table 3)."""

from .fpn_32_ifa import model

model.backbone.res2_pool = 2
for level in ("res3", "res4", "res5"):
    model.sem_seg_head.input_shape[level].stride *= 2
