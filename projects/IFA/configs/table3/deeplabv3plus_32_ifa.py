"""DeepLab V3+ of stride 32 with IFA (Table 3)."""

from ..table2.deeplabv3plus_ifa import model
