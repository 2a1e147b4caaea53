"""Lite0 on CamVid with auxiliary heads of all classes at res2, res3 and res4.

What cluster_classes.py finds clusters by, and what HS3 is to be better than.
"""

from detectron2.config import LazyCall as L

from ifa_d2.modeling import AuxiliaryHead

from .no_aux_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

# Times aux_loss_weight 0.4.
_WEIGHTS = {"res2": 0.5, "res3": 0.5, "res4": 1.0}
model.sem_seg_head.aux_heads = [
    L(AuxiliaryHead)(
        feature=_name,
        in_channels="${...levels.input_shape." + _name + ".channels}",
        channels=64,
        num_classes="${...num_classes}",
        norm="${...levels.norm}",
        loss_weight=_weight,
    )
    for _name, _weight in _WEIGHTS.items()
]
