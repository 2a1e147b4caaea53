"""BatchNorm over points of which only some look like the picture.

Shape legend: B batch, C channels, P points.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import NaiveSyncBatchNorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def leading_statistics(module: nn.Module, count: int | None) -> Iterator[None]:
    """Let BatchNorms take mean and variance of the first ``count`` points alone.

    Points chosen where a network errs have other statistics than a picture has, which is what is
    decoded in the end. Inside the block the BatchNorms of ``module`` normalise all points by the
    statistics of the first ones, gradients included, and their running averages follow those.

    Args:
        module: what holds the BatchNorms; they see (B, C, 1, P).
        count: how many of each image's points; None leaves BatchNorm as it is.
    """
    handles = []
    for norm in module.modules() if count is not None else ():
        if isinstance(norm, _BatchNorm) and norm.training:
            hooks = _LeadingStatistics(count)
            handles.append(norm.register_forward_pre_hook(hooks.before))
            handles.append(norm.register_forward_hook(hooks.after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in eval mode and without gradients, with no trace in BatchNorm's averages."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


class _LeadingStatistics:
    """Hooks of one BatchNorm: it sees the leading points for the sake of its running averages, and
    in place of its output comes that of all points, by the same statistics."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.points: Tensor | None = None

    def before(self, norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (self.points,) = args
        leading = self.points.detach()[..., : self.count]
        return (leading.contiguous(memory_format=torch.channels_last),)

    def after(self, norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        points, self.points = self.points, None
        return _normalised_as(norm, args[0], points)


def _normalised_as(norm: _BatchNorm, leading: Tensor, points: Tensor) -> Tensor:
    """All ``points`` as a BatchNorm in training would normalise them if it took its statistics of
    the ``leading`` ones alone, the first of each image."""
    mean, var = _moments(leading)
    world_size = 1
    if isinstance(norm, (nn.SyncBatchNorm, NaiveSyncBatchNorm)):
        world_size = _world_size()
        mean, var = _pooled(mean, var, world_size)
    weight = torch.ones_like(mean) if norm.weight is None else norm.weight.to(mean.dtype)
    bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.to(mean.dtype)
    count, rstd = leading.shape[-1], (var + norm.eps).rsqrt()
    points, weight, bias = _GradientOfStatistics.apply(
        points, weight, bias, mean, rstd, count, world_size
    )
    # By given statistics, as in eval mode: one pass over all points.
    return F.batch_norm(points, mean, var, weight, bias, training=False, eps=norm.eps)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of each channel, in single precision at least.

    On a CPU, ``var_mean`` over all axes but the channels takes twenty times as long.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = x.mean((0, 2, 3))
    return mean, (x - mean[:, None, None]).square_().mean((0, 2, 3))


class _GradientOfStatistics(torch.autograd.Function):
    """Adds to the gradient of points, which are normalised by given statistics, what flows back
    through these to the leading points. Points, weight and bias pass through as they are.

    Of y = weight (x - mean) rstd + bias, autograd has weight rstd dy for x, and the sums over all
    points dw = sum dy (x - mean) rstd and db = sum dy. Each of the N leading points (of all
    processes) gets, besides, -weight rstd (db + (x - mean) rstd dw) / N.
    """

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        rstd: Tensor,
        count: int,
        world_size: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(points, weight, mean, rstd)
        ctx.count, ctx.world_size = count, world_size
        return points.view_as(points), weight.view_as(weight), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, dw: Tensor, db: Tensor):
        points, weight, mean, rstd = ctx.saved_tensors
        leading = points[..., : ctx.count]
        number = leading[:, 0].numel() * ctx.world_size
        sums = torch.stack([dw, db]).to(mean.dtype)
        if ctx.world_size > 1:
            torch.distributed.all_reduce(sums)
        factor = -weight * rstd / number
        slope = factor * rstd * sums[0]
        shift = factor * sums[1] - mean * slope
        # In place: the batch norm that was given these points has made this gradient for them.
        grad[..., : ctx.count] += torch.addcmul(
            shift[:, None, None], leading.to(mean.dtype), slope[:, None, None]
        )
        return grad, dw, db, None, None, None, None


def _world_size() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _pooled(mean: Tensor, var: Tensor, world_size: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over processes that have as many points each."""
    if world_size == 1:
        return mean, var
    all_mean = mean.clone()
    torch.distributed.all_reduce(all_mean)
    all_mean /= world_size
    all_var = var + (mean - all_mean).square()
    torch.distributed.all_reduce(all_var)
    return all_mean, all_var / world_size
