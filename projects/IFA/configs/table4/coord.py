"""IFA with the offsets alone (Table 4)."""

from ..table1.ifa import model

model.sem_seg_head.encoding = "coord"
