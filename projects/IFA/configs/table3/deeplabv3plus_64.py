"""DeepLab V3+ of stride 64 (Table 3)."""

from .deeplabv3plus_64_ifa import model

model.sem_seg_head.alignment = "bilinear"
