"""DeepLab V3+ of stride 32 (Table 3)."""

from .deeplabv3plus_32_ifa import model

model.sem_seg_head.alignment = "bilinear"
