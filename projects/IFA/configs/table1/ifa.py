"""FPN with IFA (Table 1): the model that the other rows differ from by their alignment."""

from ifa_d2 import get_config

model = get_config("common/models/ifa_r50.py").model
