"""IFA on a ResNet-18 (Table 5)."""

from ifa_d2 import get_config

model = get_config("cityscapes/ifa_r18.py").model
