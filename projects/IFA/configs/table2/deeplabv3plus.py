"""DeepLab V3+ (Table 2)."""

from .deeplabv3plus_ifa import model

model.sem_seg_head.alignment = "bilinear"
