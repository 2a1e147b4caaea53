"""HRNet-W18 (Table 2)."""

from .hrnet_w18_ifa import model

model.sem_seg_head.alignment = "bilinear"
