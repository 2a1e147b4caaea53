"""Depth from the drawn films alone: the base of xdistill_lite0.py. Minutes on a CPU core."""

import sys
from pathlib import Path

from ..common.self_supervised import dataloader, lr_multiplier, model, optimizer, train

_project = str(Path(__file__).resolve().parents[2])
if _project not in sys.path:
    sys.path.insert(0, _project)

import drawn_films as _drawn_films  # noqa: E402 (it registers them)

dataloader.train.dataset.names = "xdistill_shapes_train"
dataloader.train.mapper.augmentations[0].update(short_edge_length=[64], max_size=96)
dataloader.test.dataset.names = "xdistill_shapes_val"
dataloader.test.mapper.augmentations[0].update(short_edge_length=64, max_size=96)
optimizer.lr = 1e-3
train.update(max_iter=600, batch_size=4, seed=1, eval_period=200)
