"""FPN with IFA trained at points, with the local ensemble; not in the paper."""

from .ifa import model

model.sem_seg_head.update(targets="points", point_sampling="balanced_boundary", local_ensemble=True)
