"""IFA at points, each cell with its 3x3 neighbourhood's features; not in the paper."""

from .ifa_points import model

model.sem_seg_head.unfold = True
