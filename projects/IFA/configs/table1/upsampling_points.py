"""FPN with its up-sampling module, trained at points like IFA's; not in the paper."""

from .upsampling import model

model.sem_seg_head.update(targets="points", point_sampling="balanced_boundary")
