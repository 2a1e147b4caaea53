"""Panoptic-DeepLab with IFA on the drawn scenes, R-18 from scratch: the base of pisr_r18.py.

Heads are half as wide as usual, to train in minutes on two CPU cores; sizes in pixels are those of
pictures of 128 x 192.
"""

import sys
from pathlib import Path

from ifa_d2 import get_config

from ..common.panoptic_deeplab import dataloader, model

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

from panoptic_shapes import THING_IDS as _things  # noqa: E402

_recipe = get_config("shapes/ifa_r18.py")
inference, train = _recipe.inference, _recipe.train
lr_multiplier, optimizer = _recipe.lr_multiplier, _recipe.optimizer

model.backbone = _recipe.model.backbone
model.sem_seg_head.num_classes = 13
model.sem_seg_head.levels.channels = [128, 128, 128, 128]
model.sem_seg_head.alignment.hidden_dims = [256, 128]
model.ins_embed_head.update(decoder_channels=[64, 64, 128], aspp_dilations=[1, 2, 3])
model.update(thing_classes=list(_things), nms_kernel=5, stuff_area=32)

dataloader.train.dataset.names = "shapes_panoptic_train"
dataloader.train.mapper.augmentations[0].update(short_edge_length=[128], max_size=192)
dataloader.train.mapper.panoptic_target_generator.update(sigma=3, small_instance_area=64)
dataloader.test.dataset.names = "shapes_panoptic_val"
dataloader.test.mapper.augmentations[0].update(short_edge_length=128, max_size=192)
