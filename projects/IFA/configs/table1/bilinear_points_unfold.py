"""Bilinear up-sampling at points, cells unfolded like ifa_points_unfold's; not in the paper."""

from .bilinear_points import model

model.sem_seg_head.unfold = True
