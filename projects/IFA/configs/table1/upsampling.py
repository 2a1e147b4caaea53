"""FPN with its own up-sampling module (Table 1)."""

from .ifa import model

model.sem_seg_head.alignment = "upsampling"
