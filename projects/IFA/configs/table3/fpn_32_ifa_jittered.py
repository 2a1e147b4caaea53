"""FPN of stride 32 with IFA trained on jittered grids, with the local ensemble."""

from .fpn_32_ifa import model

model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
