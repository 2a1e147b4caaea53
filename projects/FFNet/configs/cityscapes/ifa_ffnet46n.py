"""The backbone of ffnet46n_cbb.py with IFA in place of its up-head, all else the same."""

from ..common.cityscapes import ifa_head as _head
from ..common.ffnet import put_head
from .ffnet46n_cbb import dataloader, inference, lr_multiplier, model, optimizer, train

put_head(model, _head)
