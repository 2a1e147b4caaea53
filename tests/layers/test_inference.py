"""Inference: levels on request, levels that are kept, and weights as they are."""

from typing import ClassVar

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ifa_d2.layers import (
    GridQuery,
    GridSubset,
    ImplicitAlignment,
    PointQuery,
    PointwiseLevel,
)

CHANNELS = (3, 2, 4)


def make(seed: int = 0, **kwargs) -> ImplicitAlignment:
    torch.manual_seed(seed)
    kwargs = {"in_channels": CHANNELS, "num_classes": 3, "hidden_dims": (6, 4), **kwargs}
    module = ImplicitAlignment(**kwargs).double().eval()
    nn.init.normal_(module.predictor.weight)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    return module


def make_levels(sizes, batch: int = 1) -> tuple[list[PointwiseLevel], list[torch.Tensor]]:
    """Levels that are projected on request, and the same at once."""
    lazy, whole = [], []
    for i, (channels, size) in enumerate(zip(CHANNELS, sizes, strict=True)):
        project = nn.Conv2d(5, channels, 1).double()
        source = torch.randn(batch, 5, *size, dtype=torch.float64)
        if i % 2:
            source = source.contiguous(memory_format=torch.channels_last)
        lazy.append(PointwiseLevel(source, project.weight, project.bias))
        whole.append(project(source).relu().detach())
    return lazy, whole


sides = st.tuples(st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(sides, sides, sides),
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kind=st.sampled_from(["grid", "window", "points", "subset"]),
    ensemble=st.booleans(),
    unfold=st.booleans(),
    tile=st.sampled_from([1, 7, 30, 1000]),
    kept=st.sampled_from([0, 1 << 20]),
)
def test_projection_on_request_changes_nothing(
    sizes, batch, size, kind, ensemble, unfold, tile, kept
):
    module = make(local_ensemble=ensemble, unfold=unfold)
    lazy, whole = make_levels(sizes, batch)
    grid = GridQuery.regular(*size)
    query = {
        "grid": grid,
        "window": GridQuery.window((1, 0, 3, 5), size, (6, 5)),
        "points": PointQuery(torch.rand(batch, 9, 2, dtype=torch.float64)),
        "subset": GridSubset(grid, torch.stack([torch.randint(n, (9,)) for n in size], 1)),
    }[kind]
    with torch.no_grad():
        expected = module(whole, query)
        value = module.bind(lazy, tile_bytes=8 * 6 * tile, kept_bytes=kept)(query)
    assert torch.allclose(value, expected, rtol=1e-10, atol=1e-12)


def test_levels_on_request_carry_gradients():
    module = make()
    lazy, whole = make_levels([(6, 6), (3, 3), (2, 2)])
    query = GridQuery.regular(6, 6)
    module(lazy, query).sum().backward()
    assert lazy[0].weight.grad.abs().sum() > 0
    assert torch.allclose(module(lazy, query), module(whole, query))


class _Counted(PointwiseLevel):
    """A level that notes of how many cells its values are taken."""

    asked: ClassVar[list[int]] = []

    def values(self):
        self.asked.append(self.source[:, 0].numel())
        return super().values()

    def values_at(self, index):
        self.asked.append(index.numel())
        return super().values_at(index)


def counted(channels: int, size: int) -> _Counted:
    source, weight = torch.randn(1, channels, size, size), torch.eye(channels)[:, :, None, None]
    return _Counted(source.double(), weight.double(), torch.zeros(channels).double())


def test_projection_is_of_the_cells_that_are_asked():
    """A window of a large level projects the window, and a grid each cell once or little more."""
    module, asked = make(), _Counted.asked
    asked.clear()
    coarse = [torch.randn(1, c, 2, 2).double() for c in CHANNELS[1:]]
    level = counted(3, 64)
    with torch.no_grad():
        bound = module.bind([level, *coarse], tile_bytes=8 * 6 * 300, kept_bytes=8 * 6 * 10)
        bound(GridQuery.window((8, 8, 24, 40), (64, 128), (64, 64)))
        assert 16 * 32 <= sum(asked) <= 1.2 * 16 * 32
        asked.clear()
        bound(GridQuery.regular(64, 64))
        assert sum(asked) == 64 * 64
        assert max(asked) <= 1.5 * 300
        asked.clear()
        bound(GridSubset(GridQuery.regular(64, 64), torch.tensor([[5, 7], [5, 9], [6, 8]])))
        assert sum(asked) == 3
        asked.clear()
        bound(PointQuery(torch.rand(1, 5, 2)))
        assert sum(asked) == 5


def test_small_levels_are_bound_once():
    module, asked = make(local_ensemble=True), _Counted.asked
    asked.clear()
    levels = [counted(c, s) for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]
    query = GridQuery.regular(16, 16)
    with torch.no_grad():
        bound = module.bind(levels)
        first = bound(query)
        assert sum(asked) == 64 + 16 + 4
        assert torch.equal(bound(query), first)
        bound(PointQuery(torch.rand(1, 9, 2)))
        assert sum(asked) == 64 + 16 + 4
        module.bind(levels, kept_bytes=8 * 6 * 16)(query)  # of the coarser two
        bound = module.bind(levels, kept_bytes=8 * 6 * 16)
        bound(query)
        asked.clear()
        bound(query)
    assert sum(asked) == 64


def test_training_between_answers_is_seen():
    module = make()
    levels = [torch.randn(2, c, s, s).double() for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]
    query = GridQuery.regular(8, 8)
    with torch.no_grad():
        before = module(levels, query)
        module.train()
        module(levels, query)  # moves the running statistics
        module.eval()
        after = module(levels, query)
    assert not torch.allclose(before, after)
    assert torch.allclose(after, module(levels, query).detach(), rtol=1e-10)
