"""The package's Lite0 on CamVid, whose head draws its points itself: what a boundary head adds to.

Labels of points are those of the crop's pixels, not of the annotation's as in camvid/ifa_lite0.py.
"""

from ifa_d2 import get_config

from ..common.boundary import draw_points_in_head as _draw_points_in_head

_recipe = get_config("camvid/ifa_lite0.py")
_draw_points_in_head(_recipe)
dataloader, inference, model = _recipe.dataloader, _recipe.inference, _recipe.model
lr_multiplier, optimizer, train = _recipe.lr_multiplier, _recipe.optimizer, _recipe.train
