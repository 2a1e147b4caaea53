"""A function over many items in several processes."""

import multiprocessing
import os
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


def test_workers_are_checked() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        list(run_parallel(square, [1], workers=0, description="none"))
