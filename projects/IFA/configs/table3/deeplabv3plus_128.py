"""DeepLab V3+ of stride 128 (Table 3)."""

from .deeplabv3plus_128_ifa import model

model.sem_seg_head.alignment = "bilinear"
