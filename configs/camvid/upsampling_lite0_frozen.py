"""The frozen Lite0 of ifa_lite0_frozen.py with the up-sampling module, all else the same."""

from ifa_d2.modeling import use_alignment

from .ifa_lite0_frozen import dataloader, inference, lr_multiplier, model, optimizer, train

use_alignment(model.sem_seg_head, "upsampling")
