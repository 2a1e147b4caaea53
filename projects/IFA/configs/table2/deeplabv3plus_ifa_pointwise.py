"""DeepLab V3+ with IFA in place of its up-sampling and of its decoder's convolutions."""

from .deeplabv3plus_ifa import model

model.sem_seg_head.decoder = "pointwise"
