"""Lite0 on CamVid with a boundary head, attention to boundaries, and the inverse form.

Without the inverse form: model.sem_seg_head.aux_heads.1.inverse_form=null. Without attention:
model.sem_seg_head.aux_heads.1.attention_weight=0. Without the head: no_boundary_lite0.py.
"""

from ..common.boundary import add_boundary_head as _add_boundary_head
from .no_boundary_lite0 import dataloader, inference, lr_multiplier, model, optimizer, train

_add_boundary_head(model.sem_seg_head)
