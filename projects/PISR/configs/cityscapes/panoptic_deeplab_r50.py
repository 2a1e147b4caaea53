"""Panoptic-DeepLab with IFA on Cityscapes, R-50: the base of pisr_r50.py.

Stride of res5, crops, batch, iterations and targets are those of Detectron2's Panoptic-DeepLab on a
ResNet-52; backbone and rate are otherwise those of the package's cityscapes/ifa_r50.py.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from ifa_d2 import get_config

from ..common.panoptic_deeplab import dataloader, model

_recipe = get_config("cityscapes/ifa_r50.py")
train, lr_multiplier, optimizer = _recipe.train, _recipe.lr_multiplier, _recipe.optimizer
inference = _recipe.inference
inference.window = None  # a picture at once, as instances would be cut

model.backbone = _recipe.model.backbone
model.backbone.output_stride = 16
model.sem_seg_head.num_classes = 19
for _index, _level in enumerate(("res2", "res3", "res4", "res5")):
    model.sem_seg_head.levels.input_shape[_level].channels = 256 * 2**_index
model.sem_seg_head.levels.input_shape.res5.stride = 16
model.thing_classes = list(range(11, 19))

_edges = [512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048]
_crop = L(T.RandomCrop)(crop_type="absolute", crop_size=(512, 1024))
dataloader.train.dataset.names = "cityscapes_fine_panoptic_train"
dataloader.train.num_workers = dataloader.test.num_workers = 4
_augmentations = dataloader.train.mapper.augmentations
_augmentations[0].update(short_edge_length=_edges, max_size=4096)
dataloader.train.mapper.augmentations = [_augmentations[0], _crop, _augmentations[1]]
dataloader.test.dataset.names = "cityscapes_fine_panoptic_val"
dataloader.test.mapper.augmentations[0].update(short_edge_length=1024, max_size=2048)
train.update(max_iter=90_000, batch_size=32, eval_period=5000)
train.checkpointer.period = 5000
