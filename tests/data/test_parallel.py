"""A function over many items in several processes."""

import multiprocessing
import os
import threading
import time

import pytest

from ifa_d2.data.parallel import run_parallel


def square(number: int) -> tuple[int, int]:
    time.sleep(0.001 * (number % 3))  # some are overtaken
    return number * number, os.getpid()


def refuse(number: int) -> int:
    if number == 5:
        raise ValueError("number must not be 5")
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(workers: int) -> None:
    results = list(run_parallel(square, range(50), workers=workers, description="squares"))
    assert [result[0] for result in results] == [number * number for number in range(50)]
    processes = {result[1] for result in results}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert multiprocessing.active_children() == []  # nothing closes while Python ends


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through(workers: int) -> None:
    with pytest.raises(ValueError, match="must not be 5"):
        list(run_parallel(refuse, range(20), workers=workers, description="some"))


def linger(number: int) -> int:
    if number:
        time.sleep(0.5)
        return number
    raise ValueError("the first is wrong")


@pytest.mark.parametrize("ends", ["whole", "by an error", "early"])
def test_nothing_runs_on_when_it_ends(ends: str) -> None:
    """What ran on met the end of the program, and a pipe that was closed in that moment."""
    items = {"whole": range(1, 5), "by an error": range(4), "early": range(1, 9)}[ends]
    results = run_parallel(linger, items, workers=2, description="some")
    if ends == "whole":
        assert list(results) == list(items)
    elif ends == "by an error":
        with pytest.raises(ValueError, match="the first is wrong"):
            list(results)
    else:
        assert next(results) == 1
        results.close()
    assert not multiprocessing.active_children()
    threads = [type(thread).__name__ for thread in threading.enumerate()]
    assert "_ExecutorManagerThread" not in threads


def test_workers_are_checked() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        list(run_parallel(square, [1], workers=0, description="none"))
