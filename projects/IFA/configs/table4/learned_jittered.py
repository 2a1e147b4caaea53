"""IFA with learned frequencies trained on jittered grids, with the local ensemble."""

from .learned import model

model.sem_seg_head.update(targets="jittered_grid", local_ensemble=True)
