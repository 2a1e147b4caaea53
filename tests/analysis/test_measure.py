"""What benchmarks are made of."""

import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F

from ifa_d2.analysis.measure import (
    alternate,
    bare_products,
    fit_exponent,
    median_ratio,
    peak_memory,
)


def test_alternate_takes_turns():
    calls = []
    times = alternate(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=2
    )
    assert calls == ["a", "b"] * 5
    assert [len(value) for value in times.values()] == [3, 3]


def test_median_ratio_is_of_turns():
    assert median_ratio([2.0, 40.0, 3.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize("exponent", [1.0, 0.0, -0.5])
def test_fit_exponent_of_a_power_law(exponent):
    sizes = [1.0, 4.0, 16.0, 100.0]
    costs = [3.0 * size**exponent for size in sizes]
    assert fit_exponent(sizes, costs) == pytest.approx(exponent, abs=1e-12)


def test_fit_exponent_is_the_least_squares_one():
    # slopes 1 and 0 of two steps of the same length
    assert fit_exponent([1, 10, 100], [1, 10, 10]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "costs"), [([2.0], [1.0]), ([2.0, 2.0], [1.0, 3.0]), ([1.0, 2.0], [0.0, 1.0])]
)
def test_fit_exponent_of_nothing(sizes, costs):
    assert fit_exponent(sizes, costs) is None


def test_peak_memory_counts_what_is_held_at_once():
    x = torch.randn(1 << 20)

    def two_at_once():
        y = x + 1
        return y * 2

    def one_after_the_other():
        for _ in range(3):
            x.add(1)

    size = x.numel() * 4
    assert peak_memory(two_at_once) == pytest.approx(2 * size, rel=1e-3)
    assert peak_memory(one_after_the_other) == pytest.approx(size, rel=1e-3)


def test_peak_memory_runs_as_often_as_asked_and_prints_nothing(capfd):
    calls = []
    peak_memory(lambda: calls.append(torch.ones(3)), warmup=0)
    assert len(calls) == 1
    peak_memory(lambda: calls.append(torch.ones(3)), warmup=2)
    assert len(calls) == 4
    assert capfd.readouterr().err == ""


def test_watch_memory_sees_what_a_block_holds_at_its_worst():
    """In a process of its own: what others left to the allocator would be used again unseen."""
    code = """
        import torch
        from ifa_d2.analysis.measure import watch_memory
        size = 64 << 20
        held = torch.ones(size, dtype=torch.uint8)
        with watch_memory() as first:
            for _ in range(3):
                torch.ones(size, dtype=torch.uint8)
        with watch_memory() as second:
            held += 1
        print(first.peak and first.peak / size, second.peak and second.peak / size)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    shares = done.stdout.split()
    if shares == ["None", "None"]:
        pytest.skip("this system tells no resident memory")
    assert float(shares[0]) == pytest.approx(1, rel=0.1)
    assert float(shares[1]) < 0.1


def test_bare_products_are_those_of_the_function():
    weight = torch.randn(8, 4, 1, 1, requires_grad=True)
    x = torch.randn(2, 4, 5, 6).contiguous(memory_format=torch.channels_last)

    def function():
        (F.conv2d(x, weight).relu() @ torch.randn(6, 3)).sum().backward()

    replay = bare_products(function)
    with torch.profiler.profile(record_shapes=True) as profiler:
        replay()
    shapes = {e.key: e.input_shapes for e in profiler.key_averages(group_by_input_shape=True)}
    assert shapes["aten::convolution"][:2] == [[2, 4, 5, 6], [8, 4, 1, 1]]
    assert "aten::convolution_backward" in shapes
    assert not any("relu" in key or "sum" in key for key in shapes)
