"""Data, schedule and points of the package's R-18 on CamVid, and its IFA head."""

from ifa_d2 import get_config

_recipe = get_config("camvid/ifa_r18.py")
dataloader, inference, train = _recipe.dataloader, _recipe.inference, _recipe.train
lr_multiplier, optimizer = _recipe.lr_multiplier, _recipe.optimizer
ifa_head = _recipe.model.sem_seg_head
