"""Counts of what a GPU is waited for and sent, for tests marked ``gpu``."""

import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

_DIRECTIONS = {"HtoD": "sent", "DtoH": "fetched"}


@contextmanager
def count_waits() -> Iterator[Counter[str]]:
    """How often each place of the package, ``file:line``, makes the host wait for the GPU.

    Reads of numbers and of sizes that are counted on the GPU, and copies that are not
    ``non_blocking``, as far as :func:`torch.cuda.set_sync_debug_mode` knows them.
    """
    waits: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            waits[_place()] += 1

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)


def copied_bytes(function: Callable[[], Any]) -> dict[str, int]:
    """Bytes that a call copies to the GPU (``sent``) and from it (``fetched``).

    The test is skipped where the profiler cannot record copies.
    """
    if _record_copies(lambda: torch.zeros(1000, dtype=torch.uint8).cuda())["sent"] != 1000:
        pytest.skip("the profiler records no copies here")
    return _record_copies(function)


def _record_copies(function: Callable[[], Any]) -> dict[str, int]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        function()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    copied = dict.fromkeys(_DIRECTIONS.values(), 0)
    for event in events:
        if event.get("cat") == "gpu_memcpy":  # named as "Memcpy HtoD (Pageable -> Device)"
            direction = _DIRECTIONS.get(event["name"].split()[1])
            if direction:
                copied[direction] += event["args"]["bytes"]
    return copied


def _place() -> str:
    """File and line of the innermost code of the package."""
    frame = sys._getframe()
    while frame is not None:
        _, package, name = frame.f_code.co_filename.rpartition("/ifa_d2/")
        if package:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
