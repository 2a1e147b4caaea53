"""PSPNet (Table 2)."""

from .pspnet_ifa import model

model.sem_seg_head.alignment = "bilinear"
