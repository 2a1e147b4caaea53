"""Results that are computed again for their gradients, instead of kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(
    function: Callable[..., Any], *args: Any, norms_of: nn.Module, draws: bool = True, **kwargs: Any
) -> Any:
    """Call a function, of which only the arguments are kept for the backward pass.

    Gradients are the same, and statistics of batch norms are taken once. What comes last and keeps
    its input alone is not computed again. Without gradients it is called as it is.

    Args:
        function: called once, and again for gradients.
        args, kwargs: that it is called with, not to be overwritten.
        norms_of: what holds its norms.
        draws: whether it draws random numbers, which are then drawn alike.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # a compiler chooses itself
        return function(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _fixed_statistics(norms_of)

    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        preserve_rng_state=draws,
        context_fn=contexts,
        **kwargs,
    )


@contextmanager
def _fixed_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms leave their running statistics as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
