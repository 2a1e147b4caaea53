"""FPN of stride 64 (Table 3)."""

from .fpn_64_ifa import model

model.sem_seg_head.alignment = "upsampling"
