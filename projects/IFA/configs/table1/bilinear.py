"""FPN with bilinear up-sampling (Table 1)."""

from .ifa import model

model.sem_seg_head.alignment = "bilinear"
