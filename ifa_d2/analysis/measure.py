"""Time, memory and bare matrix products of functions, for benchmarks.

Times of a shared machine drift: compared functions run in turn, and medians and ratios are kept.
"""

import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

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
    """Time functions in turn, in wall-clock seconds.

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
            seconds = timed(function)
            if turn >= warmup:
                times[name].append(seconds)
    return times


def timed(function: Callable[[], Any]) -> float:
    """Time one call in wall-clock seconds, its work on a GPU included."""
    _synchronize()
    start = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - start


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median ratio of two functions' times over the turns."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def fit_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Fit the exponent e of cost ~ size ** e by least squares in logarithms.

    Returns:
        None where there is nothing to fit: fewer than two sizes, or a value that is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def peak_memory(
    function: Callable[[], Any], *, warmup: int = 1, device: str | torch.device | None = None
) -> int:
    """Peak bytes of tensors that a call holds, beyond those held before it.

    What a library allocates by itself for the length of one operation is not seen on a CPU.

    Args:
        function: what to run.
        warmup: how often it runs before.
        device: where its tensors are; None is the GPU if there is one, and else the CPU.
    """
    for _ in range(warmup):
        function()
    if _is_gpu(device):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    profiler = torch.autograd.profiler.profile(profile_memory=True)
    with _silent_stderr():
        profiler.__enter__()
    try:
        function()
    finally:
        with _silent_stderr():
            profiler.__exit__(None, None, None)
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=_start):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def multiply_adds(function: Callable[[], Any]) -> int:
    """Count multiply-adds of convolutions and matrix products, backward pass included."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() // 2


@dataclass
class MemoryWatch:
    """Memory measured by :func:`watch_memory`.

    Attributes:
        peak: bytes held at the worst moment beyond those held at the start; None where the system
            does not tell.
    """

    peak: int | None = None


@contextmanager
def watch_memory(device: str | torch.device = "cpu") -> Iterator[MemoryWatch]:
    """Measure the memory of a block, at no cost to its time.

    On a CPU it is the memory of the whole process as the system counts it (Linux: the peak of
    resident memory, reset at the start), which includes allocations by libraries. It is coarser
    than :func:`peak_memory`: pages count, the allocator keeps some of them, and other work of the
    process counts as well. On a GPU it is the memory of tensors.
    """
    watch = MemoryWatch()
    if _is_gpu(device):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield watch
        torch.cuda.synchronize(device)
        watch.peak = torch.cuda.max_memory_allocated(device) - before
        return
    before = _reset_resident_peak()
    yield watch
    if before is not None:
        watch.peak = max(0, resident_bytes("VmHWM") - before)


def _reset_resident_peak() -> int | None:
    """Reset the peak of resident memory to the present value, and return it.

    None where the system has no such mark.
    """
    try:
        # Pages that were freed but not given back would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass  # only the GNU C library has it
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return resident_bytes("VmRSS")
    except OSError:
        return None


def resident_bytes(key: str, process: int | str = "self") -> int:
    """Read resident memory of a process of Linux, "VmRSS" or its peak "VmHWM"."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def device_name(device: str | torch.device) -> str:
    """Name of the processor that is measured: the CPU, or a GPU."""
    if _is_gpu(device):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return models[0] if models else platform.processor() or platform.machine()


def _is_gpu(device: str | torch.device | None) -> bool:
    if device is None:
        return torch.cuda.is_available()
    return torch.device(device).type == "cuda"


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence native code on the standard error stream: the profiler's tracer."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def bare_products(function: Callable[[], Any]) -> Callable[[], None]:
    """Build a function that runs the matrix products and convolutions of ``function`` alone.

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
    """Description of a tensor, to make a stand-in."""

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
