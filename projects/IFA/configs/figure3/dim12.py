"""IFA with an encoding of 12 values (Fig. 3): sines and cosines of 3 frequencies an axis."""

from ..table1.ifa import model

model.sem_seg_head.num_frequencies = 3
