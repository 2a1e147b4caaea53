"""A small Lite0 on CamVid at half the pictures' size: the auxiliary model of auxadapt_lite0.py."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from ifa_d2 import get_config

_recipe = get_config("camvid/ifa_lite0.py")
dataloader, inference, model = _recipe.dataloader, _recipe.inference, _recipe.model
lr_multiplier, optimizer, train = _recipe.lr_multiplier, _recipe.optimizer, _recipe.train

model.sem_seg_head.levels.channels = [64, 64, 64, 64]
model.sem_seg_head.alignment.hidden_dims = [128, 64]
dataloader.train.mapper.augmentations.update(short_edge=180, crop_size=(120, 160))
dataloader.train.mapper.num_points = 1200
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=180, max_size=4000)
]
train.update(max_iter=800, eval_period=800)
