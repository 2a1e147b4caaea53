"""HRNet-W48-OCR (Table 2)."""

from .hrnet_w48_ocr_ifa import model

model.sem_seg_head.alignment = "bilinear"
