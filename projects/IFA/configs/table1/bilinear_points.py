"""FPN with bilinear up-sampling, trained at points like IFA's; not in the paper."""

from .bilinear import model

model.sem_seg_head.update(targets="points", point_sampling="balanced_boundary")
