"""FPN of stride 32 with IFA (Table 3)."""

from ..table1.ifa import model
