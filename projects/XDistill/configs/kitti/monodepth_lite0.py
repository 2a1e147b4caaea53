"""Depth from KITTI's drives alone: the base of xdistill_lite0.py. Not trained here.

Size, batch, rate and length are those of Monodepth2; depths count in the part of the picture that
Garg et al. (ECCV 2016) chose.
"""

import sys
from pathlib import Path

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from ..common.self_supervised import dataloader, lr_multiplier, model, optimizer, train

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

import kitti as _kitti  # noqa: E402 (it registers them)

dataloader.train.dataset.names = "kitti_depth_train"
dataloader.train.mapper.augmentations[0] = L(T.Resize)(shape=(192, 640))
dataloader.test.dataset.names = "kitti_depth_test"
dataloader.test.mapper.augmentations = [L(T.Resize)(shape=(192, 640))]
dataloader.evaluator.crop = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
dataloader.train.num_workers = dataloader.test.num_workers = 4
optimizer.lr = 1e-4
train.update(max_iter=66_000, batch_size=12, eval_period=0)
