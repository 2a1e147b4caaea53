"""FPN with IFA trained on jittered grids, with the local ensemble; not in the paper."""

from .ifa import model

model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
