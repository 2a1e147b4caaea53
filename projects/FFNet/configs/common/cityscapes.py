"""Data and schedule of the package's R-50 on Cityscapes, from scratch, and its IFA head."""

from ifa_d2 import get_config

_recipe = get_config("cityscapes/ifa_r50.py")
dataloader, inference, train = _recipe.dataloader, _recipe.inference, _recipe.train
lr_multiplier, optimizer = _recipe.lr_multiplier, _recipe.optimizer
ifa_head = _recipe.model.sem_seg_head

train.init_checkpoint = ""
