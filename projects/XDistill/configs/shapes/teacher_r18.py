"""A teacher for xdistill_lite0.py: the package's shapes/ifa_r18.py, trained on the drawn films."""

import sys
from pathlib import Path

from ifa_d2 import get_config

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

import drawn_films as _drawn_films  # noqa: E402 (it registers them)

_recipe = get_config("shapes/ifa_r18.py")
model, optimizer, lr_multiplier = _recipe.model, _recipe.optimizer, _recipe.lr_multiplier
dataloader, inference, train = _recipe.dataloader, _recipe.inference, _recipe.train

dataloader.train.dataset.names = "xdistill_shapes_train"
dataloader.train.mapper.augmentations.update(short_edge=64, crop_size=(64, 96))
dataloader.train.mapper.num_points = 768
dataloader.test.dataset.names = "xdistill_shapes_val"
train.max_iter = 400
