"""IFA without position (Table 4)."""

from ..table1.ifa import model

model.sem_seg_head.encoding = "none"
