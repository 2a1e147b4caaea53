"""FPN with SAPA, which the paper's Table 1 does not have."""

from .ifa import model

model.sem_seg_head.alignment = "sapa"
