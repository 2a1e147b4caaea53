"""FPN with IFA, each cell with its 3x3 neighbourhood's features; the paper has no such row."""

from .ifa import model

model.sem_seg_head.unfold = True
