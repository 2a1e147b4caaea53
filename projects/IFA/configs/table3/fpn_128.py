"""FPN of stride 128 (Table 3)."""

from .fpn_128_ifa import model

model.sem_seg_head.alignment = "upsampling"
