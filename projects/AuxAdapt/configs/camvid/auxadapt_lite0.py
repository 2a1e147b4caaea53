"""AuxAdapt on CamVid: the zoo's frozen Lite0, and half_lite0.py, which adapts beside it.

Weights of both are joined by join_weights.py. With model.learning_rate=0 it is their sum.
"""

import sys
from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.modeling import SemanticSegmentor

from ifa_d2 import get_config

sys.path.append(str(Path(__file__).resolve().parents[2]))
from aux_adapt import AuxAdaptSegmentor

from .half_lite0 import model as _auxiliary

_recipe = get_config("camvid/ifa_lite0_frozen.py")
dataloader, inference, train = _recipe.dataloader, _recipe.inference, _recipe.train
lr_multiplier, optimizer = _recipe.lr_multiplier, _recipe.optimizer  # of no use: it does not train

model = L(AuxAdaptSegmentor)(
    main=_recipe.model,
    auxiliary=_auxiliary,
    learning_rate=1e-4,
    momentum=0.9,
    max_gradient_norm=1.0,
    loss_on="sum",
    scale=0.5,
    cut_distance=0.25,
)
model.main.return_logits = True
# It decodes with gradients, on the finest feature's grid.
model.auxiliary._target_ = SemanticSegmentor
