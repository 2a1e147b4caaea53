"""FPN with IFA, each cell with its 3x3 neighbourhood's features; not in the paper."""

from .ifa import model

model.sem_seg_head.unfold = True
