"""FPN with AlignSeg (Table 1)."""

from .ifa import model

model.sem_seg_head.alignment = "alignseg"
