"""Inference: projection on request, weights folded once, programs compiled once."""

import copy
import pickle

import pytest
import torch
import torch._dynamo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ifa_d2.layers import (
    GridQuery,
    GridSubset,
    ImplicitAlignment,
    PointQuery,
    PointwiseLevel,
    tiling,
)
from ifa_d2.layers.mlp import DerivedCache
from ifa_d2.layers.tiling import plan_grid, plan_points

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
        project = nn.Sequential(nn.Conv2d(5, channels, 1), nn.Tanh()).double()
        source = torch.randn(batch, 5, *size, dtype=torch.float64)
        if i % 2:
            source = source.contiguous(memory_format=torch.channels_last)
        lazy.append(PointwiseLevel(source, project, channels))
        whole.append(project(source).detach())
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
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        expected = module(whole, query)
        patch.setattr(tiling, "_TILE_BYTES_CPU", 8 * 6 * tile)
        patch.setattr(tiling, "_KEPT_BYTES", kept)
        value = module(lazy, query)
    assert torch.allclose(value, expected, rtol=1e-10, atol=1e-12)


def test_levels_on_request_carry_gradients():
    module = make()
    lazy, whole = make_levels([(6, 6), (3, 3), (2, 2)])
    query = GridQuery.regular(6, 6)
    module(lazy, query).sum().backward()
    assert lazy[0].function[0].weight.grad.abs().sum() > 0
    assert torch.allclose(module(lazy, query), module(whole, query))


def test_projection_is_of_the_cells_that_are_asked():
    """A window of a large level projects the window, and no more than a band's last row twice."""
    module = make()
    asked = []

    def project(x):
        asked.append(x[:, 0].numel())
        return x

    source = torch.randn(1, 3, 64, 64).double()
    coarse = [torch.randn(1, c, 2, 2).double() for c in CHANNELS[1:]]
    level = PointwiseLevel(source, project, 3)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(tiling, "_TILE_BYTES_CPU", 8 * 6 * 300)
        patch.setattr(tiling, "_KEPT_BYTES", 8 * 6 * 10)
        module([level, *coarse], GridQuery.window((8, 8, 24, 40), (64, 128), (64, 64)))
        assert sum(asked) <= 16 * 32 + 32 * (len(asked) - 1)
        assert len(asked) == 2
        asked.clear()
        module([level, *coarse], GridQuery.regular(64, 64))
        assert sum(asked) == 64 * 64
        assert max(asked) <= 400
        asked.clear()
        index = torch.tensor([[5, 7], [5, 9], [6, 8]])
        module([level, *coarse], GridSubset(GridQuery.regular(64, 64), index))
        assert sum(asked) == 3


def test_folded_once_until_a_weight_changes(monkeypatch):
    module = make()
    levels = [torch.randn(1, c, s, s).double() for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]
    query = GridQuery.regular(8, 8)
    folds = []
    original = type(module.mlp.layers[0]).folded
    monkeypatch.setattr(
        type(module.mlp.layers[0]), "folded", lambda self: folds.append(1) or original(self)
    )

    def ask() -> int:
        """How many layers were folded for one answer, which is that of a fresh module."""
        folds.clear()
        with torch.no_grad():
            value = module(levels, query)
            count = len(folds)
            assert torch.equal(value, copy.deepcopy(module)(levels, query))
        return count

    layers = len(module.mlp.layers)
    keys = list(module.state_dict())
    assert ask() == layers
    assert ask() == 0
    state = {k: v + 0.1 if v.is_floating_point() else v for k, v in module.state_dict().items()}
    module.load_state_dict(state)
    assert (ask(), ask()) == (layers, 0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(levels, query).sum().backward()
    optimizer.step()
    assert (ask(), ask()) == (layers, 0)
    module.mlp.layers[1].norm.running_var.mul_(2)
    assert (ask(), ask()) == (layers, 0)
    module.predictor.bias.data.add_(1)
    module.eval()
    assert (ask(), ask()) == (layers, 0)
    module.float()
    levels = [level.float() for level in levels]
    assert (ask(), ask()) == (layers, 0)
    assert list(module.state_dict()) == keys
    made = []
    tensors = [module.predictor.weight.detach()]
    module._derived.get(tensors, lambda: made.append(0))
    pickle.loads(pickle.dumps(module._derived)).get(tensors, lambda: made.append(1))
    assert made == [0, 1]


class _ClearedWhileRead(list):
    """Tensors during whose second reading, the comparison, another thread clears the cache."""

    def __init__(self, tensors, cache):
        super().__init__(tensors)
        self.cache, self.readings = cache, 0

    def __iter__(self):
        self.readings += 1
        if self.readings == 2:
            self.cache.clear()
        return super().__iter__()


def test_cleared_by_another_thread_while_it_is_read():
    cache, tensors = DerivedCache(), [torch.zeros(2), torch.ones(2)]
    assert cache.get(tensors, lambda: "folded") == "folded"
    assert cache.get(_ClearedWhileRead(tensors, cache), lambda: "again") == "folded"
    assert cache.get(tensors, lambda: "anew") == "anew"


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


@pytest.mark.parametrize("ensemble", [False, True])
def test_compiled_programs_serve_every_size(ensemble):
    """The answers of the eager way, no graph break, and no new program for a new size."""
    torch._dynamo.reset()
    module = make(local_ensemble=ensemble, hidden_dims=(16, 8))
    compiled = copy.deepcopy(module)
    compiled.compile(backend="aot_eager")
    counters = torch._dynamo.utils.counters
    counters.clear()
    programs = []
    for side in (16, 24, 33, 40, 55, 20, 71):
        sizes = [(side + 1, side + 2), (side // 2 + 1, side // 2 + 2), (3, 4)]
        levels = [
            torch.randn(1, c, *size).double() for c, size in zip(CHANNELS, sizes, strict=True)
        ]
        for query in (
            GridQuery.regular(*sizes[0]),
            GridQuery.regular(3 * side, 2 * side + 1),
            GridQuery.window((1, 2, 9, 11), (side, 31), (side, side)),
            PointQuery(torch.rand(1, 3 * side, 2)),
            PointQuery(torch.rand(1, 30 * side, 2)),
        ):
            with torch.no_grad():
                expected = module(levels, query)
                assert torch.allclose(compiled(levels, query), expected, rtol=1e-9, atol=1e-12)
        programs.append(counters["stats"]["unique_graphs"])
    assert programs[-1] <= 6
    assert programs[-1] == programs[2]
    assert not counters["graph_break"]


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    level=sides,
    batch=st.integers(1, 4),
    budget=st.integers(1, 500),
    ensemble=st.booleans(),
    cols=st.integers(1, 64),
)
def test_tiles_cover_a_grid_once(size, level, batch, budget, ensemble, cols):
    count = torch.zeros(batch, *size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "_MAX_TILE_COLS", cols)
        for strip in plan_grid(GridQuery.regular(*size), batch, budget, [level], ensemble):
            for images in tiling.runs(batch, strip.images):
                for band in strip.bands():
                    for _, place in strip.tiles(band):
                        tile = count[(images, *place)]
                        assert 0 < tile.numel() <= budget
                        tile += 1
    assert torch.equal(count, torch.ones_like(count))


@given(batch=st.integers(1, 4), points=st.integers(1, 50), budget=st.integers(1, 90))
def test_runs_cover_points_once(batch, points, budget):
    count = torch.zeros(batch, points)
    for images, part in plan_points(points, batch, budget):
        assert 0 < count[images, part].numel() <= budget
        count[images, part] += 1
    assert torch.equal(count, torch.ones_like(count))
