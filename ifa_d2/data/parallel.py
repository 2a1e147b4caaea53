"""Mapping a function over many files in several processes."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNKS = 8  # a process gets its share in this many pieces, or more, so that all end together
_MAX_CHUNK = 16


def check_workers(workers: int) -> None:
    """Raise a ValueError unless there is at least one process."""
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")


def run_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    description: str,
    unit: str = "image",
) -> Iterator[Result]:
    """Apply `function` to each item, in their order, with a progress bar.

    Args:
        function: a function at a module's top level, or a `functools.partial` of one
        items: arguments of the function, one a call
        workers: processes; 1 runs in this one
        description: text in front of the bar
        unit: name of an item, after the bar's numbers

    Raises:
        ValueError: `workers` is below 1. Errors of `function` are raised too.
    """
    check_workers(workers)
    bar = {"total": len(items), "desc": description, "unit": unit}
    if workers == 1 or len(items) < 2:
        yield from tqdm(map(function, items), **bar)
        return
    # On Linux a new process inherits imported modules; importing them takes seconds otherwise.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    chunk = min(_MAX_CHUNK, max(1, len(items) // (_CHUNKS * workers)))
    with ProcessPoolExecutor(workers, context, initializer=leave_with_parent) as pool:
        results = pool.map(function, items, chunksize=chunk)  # before tqdm starts its thread
        try:
            yield from tqdm(results, **bar)
        finally:
            # Waits for running calls. Otherwise the pool's thread would go on into the end of the
            # program, which writes into a pipe that the thread may just have closed.
            pool.shutdown(wait=True, cancel_futures=True)


def leave_with_parent() -> None:
    """End this process with its parent: a parent that is killed cannot ask for it."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
