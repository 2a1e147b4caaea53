"""IFA with cosines of fixed frequencies (Table 4)."""

from ..table1.ifa import model

model.sem_seg_head.encoding = "cosine"
