"""BatchNorm over points of which only some look like the picture.

Shape legend: B batch, C channels, P points.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.layers import NaiveSyncBatchNorm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
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
    """Hooks of one BatchNorm: it sees the leading points, and the others follow them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.rest: Tensor | None = None

    def before(self, norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = args
        self.rest = x[..., self.count :]
        return (x[..., : self.count],)

    def after(self, norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        rest, self.rest = self.rest, None
        return torch.cat([output, _normalised_as(norm, args[0], rest).to(output.dtype)], dim=-1)


def _normalised_as(norm: _BatchNorm, leading: Tensor, rest: Tensor) -> Tensor:
    """``rest`` as a BatchNorm in training would normalise it together with ``leading`` if it took
    its statistics of the latter alone."""
    single = leading.dtype in (torch.float16, torch.bfloat16)
    var, mean = torch.var_mean(leading.float() if single else leading, (0, 2, 3), correction=0)
    if isinstance(norm, (nn.SyncBatchNorm, NaiveSyncBatchNorm)):
        mean, var = _pooled(mean, var)
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return rest * scale[:, None, None] + shift[:, None, None]


def _pooled(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over processes that have as many points each."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return mean, var
    size = torch.distributed.get_world_size()
    all_mean = differentiable_all_reduce(mean) / size
    return all_mean, differentiable_all_reduce(var + (mean - all_mean).square()) / size
