"""The package's R-18 on the drawn scenes, with all of InverseForm: minutes on two CPU cores."""

from ifa_d2 import get_config

from ..common.boundary import add_boundary_head as _add_boundary_head
from ..common.boundary import draw_points_in_head as _draw_points_in_head

_recipe = get_config("shapes/ifa_r18.py")
_draw_points_in_head(_recipe)
_add_boundary_head(_recipe.model.sem_seg_head)
dataloader, inference, model = _recipe.dataloader, _recipe.inference, _recipe.model
lr_multiplier, optimizer, train = _recipe.lr_multiplier, _recipe.optimizer, _recipe.train
