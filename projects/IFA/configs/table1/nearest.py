"""FPN with nearest neighbours (Table 1)."""

from .ifa import model

model.sem_seg_head.alignment = "nearest"
