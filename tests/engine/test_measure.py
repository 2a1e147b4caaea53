"""What benchmarks are made of."""

import pytest
import torch
import torch.nn.functional as F

from ifa_d2.engine.measure import alternate, bare_products, median_ratio, peak_memory


def test_alternate_takes_turns():
    calls = []
    times = alternate(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=2
    )
    assert calls == ["a", "b"] * 5
    assert [len(value) for value in times.values()] == [3, 3]


def test_median_ratio_is_of_turns():
    assert median_ratio([2.0, 40.0, 3.0], [1.0, 10.0, 1.0]) == 3.0


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
