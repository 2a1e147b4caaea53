"""FPN of stride 128 with IFA trained on jittered grids, with the local ensemble."""

from .fpn_128_ifa import model

model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
