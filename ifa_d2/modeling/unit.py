"""The convolution that modules over whole maps are made of, and norms by name."""

from functools import partial

import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

from ..layers.mlp import NormFactory


def unit(in_channels: int, out_channels: int, *, kernel_size: int, norm: str) -> Conv2d:
    """A convolution that keeps the size, norm and ReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu_,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def norm_factory(name: str) -> NormFactory:
    """Factory of norms of a name, see Detectron2's ``get_norm``; "" makes none."""
    return partial(get_norm, name)
