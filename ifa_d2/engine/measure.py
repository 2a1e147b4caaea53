"""Time, memory and bare matrix products of a function, for benchmarks that compare.

Times of a shared machine drift: what is compared runs in turn, and medians and ratios are kept.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_PRODUCTS = {
    torch.ops.aten.convolution.default,
    torch.ops.aten.convolution_backward.default,
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
}


def alternate(
    functions: Mapping[str, Callable[[], Any]], *, repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Wall-clock seconds of each function, run in turn.

    Args:
        functions: what to run, by name.
        repeats: how often each is timed.
        warmup: how often each runs untimed before.

    Returns:
        ``repeats`` times for each name; the i-th of all names are of one turn.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            _synchronize()
            start = time.perf_counter()
            function()
            _synchronize()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over the turns of the ratio of two functions' times."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(function: Callable[[], Any]) -> int:
    """Bytes of tensors that a call holds at its worst, beyond what was held before it.

    What a library allocates by itself for the length of one operation is not seen on a CPU.
    """
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        function()
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=_start):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def bare_products(function: Callable[[], Any]) -> Callable[[], None]:
    """A function that runs the matrix products of ``function`` (convolutions among them) alone.

    Their operands are random, of the same sizes, types and memory layouts.
    """
    with _ProductRecorder() as recorder:
        function()
    made: dict[tuple[Any, ...], Tensor] = {}

    def make(like: "_Like") -> Tensor:
        if like.key not in made:
            made[like.key] = like.make()
        return made[like.key]

    calls = [
        (call, tree_map_only(_Like, make, args), tree_map_only(_Like, make, kwargs))
        for call, args, kwargs in recorder.calls
    ]

    def replay() -> None:
        with torch.no_grad():
            for call, args, kwargs in calls:
                call(*args, **kwargs)

    return replay


class _Like:
    """What is needed to make a tensor that takes the place of another."""

    def __init__(self, tensor: Tensor) -> None:
        self.key = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def make(self) -> Tensor:
        shape, stride, dtype, device = self.key
        extent = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        return torch.randn(extent, dtype=dtype, device=device).as_strided(shape, stride)


class _ProductRecorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            like = [tree_map_only(Tensor, _Like, part) for part in (args, kwargs or {})]
            self.calls.append((func, *like))
        return func(*args, **(kwargs or {}))


def _start(event: Any) -> int:
    return event.start_ns()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
