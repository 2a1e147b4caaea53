"""FPN of stride 32 (Table 3)."""

from .fpn_32_ifa import model

model.sem_seg_head.alignment = "upsampling"
