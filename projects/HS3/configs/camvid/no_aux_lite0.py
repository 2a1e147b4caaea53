"""The package's Lite0 on CamVid without any auxiliary head. With one it is camvid/ifa_lite0.py."""

from ifa_d2 import get_config

_recipe = get_config("camvid/ifa_lite0.py")
dataloader, inference, model = _recipe.dataloader, _recipe.inference, _recipe.model
lr_multiplier, optimizer, train = _recipe.lr_multiplier, _recipe.optimizer, _recipe.train

model.sem_seg_head.aux_heads = []
