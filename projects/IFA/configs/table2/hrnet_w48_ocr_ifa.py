"""HRNet-W48-OCR with IFA in place of its bilinear up-sampling (Table 2)."""

from ifa_d2 import get_config

model = get_config("common/models/hrnet_w48_ocr.py").model
