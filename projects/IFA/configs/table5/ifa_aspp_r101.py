"""IFA* on a ResNet-101 (Tables 5 to 7)."""

from ifa_d2 import get_config

model = get_config("cityscapes/ifa_aspp_r101.py").model
