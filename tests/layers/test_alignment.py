"""The layer against the formula written plainly, and its properties."""

import copy
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from detectron2.layers.batch_norm import LayerNorm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ifa_d2.layers import (
    GridAxis,
    GridQuery,
    GridSubset,
    ImplicitAlignment,
    PointQuery,
    textbook_alignment,
)

from .oracle import grid_coordinates, oracle

CHANNELS = (3, 2, 4)
SETTINGS = settings(max_examples=40, deadline=None)
NORMS = {"BN": nn.BatchNorm2d, "GN": partial(nn.GroupNorm, 2), "LN": LayerNorm, "none": None}


def make(seed: int = 0, dtype: torch.dtype = torch.float64, **kwargs) -> ImplicitAlignment:
    torch.manual_seed(seed)
    kwargs = {"in_channels": CHANNELS, "num_classes": 3, "hidden_dims": (6, 4), **kwargs}
    module = ImplicitAlignment(**kwargs)
    nn.init.normal_(module.predictor.weight)
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm, LayerNorm)):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias)
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
        if getattr(m, "bias", None) is not None:
            nn.init.normal_(m.bias)
    return module.to(dtype)


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    assert value.shape == expected.shape
    return float((value.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
options = st.one_of(
    st.fixed_dictionaries(
        {
            "encoding": st.sampled_from(["none", "coord", "sine", "cosine", "fixed", "learned"]),
            "frequency_law": st.sampled_from(["pow2", "2exp"]),
            "num_frequencies": st.integers(1, 6),
            "unfold": st.booleans(),
            "local_ensemble": st.booleans(),
            "feature_slopes": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "coupled_frequencies": st.just(True),
            "num_frequencies": st.integers(1, 3),
            "integrated_encoding": st.booleans(),
            "unfold": st.booleans(),
            "local_ensemble": st.booleans(),
            "feature_slopes": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "encoding": st.sampled_from(["sine", "cosine", "fixed", "learned"]),
            "num_frequencies": st.integers(1, 6),
            "integrated_encoding": st.booleans(),
            "cell_decoding": st.booleans(),
            "local_ensemble": st.just(True),
            "ensemble_outputs": st.booleans(),
            "feature_slopes": st.booleans(),
            "hidden_dims": st.sampled_from([(6, 4), (6,), ()]),
        }
    ),
)


@st.composite
def grids(draw):
    """A grid query, the same coordinates as exact fractions, and the widths of its samples."""
    axes, exact, widths = [], [], []
    given_width = draw(st.sampled_from([None, 0.0, 0.3]))
    for _ in range(2):
        extent = draw(st.integers(1, 12))
        begin = draw(st.integers(-2, extent))
        end = draw(st.integers(begin + 1, extent + 3))
        window = (begin, end, draw(st.integers(1, 7)), extent)
        axes.append(replace(GridAxis.window(*window), footprint=given_width))
        exact.append(grid_coordinates(*window))
        widths.append((end - begin) / extent / window[2] if given_width is None else given_width)
    return GridQuery(*axes), list(product(*exact)), tuple(widths)


@SETTINGS
@given(
    batch=st.integers(1, 2),
    level_sizes=st.tuples(sizes, sizes, sizes),
    grid=grids(),
    option=options,
    norm=st.sampled_from(sorted(NORMS)),
    training=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_grid_equals_formula(batch, level_sizes, grid, option, norm, training, dtype, seed):
    query, coordinates, widths = grid
    module = make(seed, norm=NORMS[norm], **option).train(training)
    levels = [
        torch.randn(batch, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    if training and norm == "BN" and batch * len(coordinates) < 8:
        return  # statistics of so few values amplify rounding without bound
    expected = oracle(module, levels, [coordinates] * batch, [widths] * batch).transpose(1, 2)
    module = module.to(dtype)
    inputs = [level.to(dtype) for level in levels]
    # The highest frequencies of 2e^l turn an offset's rounding into an angle's.
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    if option.get("frequency_law") == "2exp" and dtype == torch.float32:
        tolerance = 1e-3
    elif option["feature_slopes"] and dtype == torch.float32:
        tolerance = 1e-4  # slopes reach far beyond the border, and GN divides by small differences
    for grad in {True, training}:
        with torch.set_grad_enabled(grad):
            value = module(inputs, query)
        assert value.shape == (batch, 3, *query.size)
        assert relative_error(value.flatten(2), expected.detach()) < tolerance
    if module.ensemble_outputs:
        return
    textbook = textbook_alignment(module, inputs, query)
    assert relative_error(textbook.flatten(2), expected.detach()) < tolerance


@SETTINGS
@given(
    batch=st.integers(1, 2),
    level_sizes=st.tuples(sizes, sizes, sizes),
    option=options,
    training=st.booleans(),
    points=st.integers(8, 40),
    seed=st.integers(0, 99),
)
def test_points_equal_formula(batch, level_sizes, option, training, points, seed):
    module = make(seed, **option).train(training)
    levels = [
        torch.randn(batch, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    coordinates = torch.rand(batch, points, 2, dtype=torch.float64)
    coordinates[:, :4] = torch.tensor([[0, 0], [1, 1], [0.5, 1], [0, 0.5]])
    widths = torch.rand(batch, 2, dtype=torch.float64) if seed % 2 else None
    footprints = None if widths is None else widths.tolist()
    expected = oracle(module, levels, coordinates.tolist(), footprints).transpose(1, 2)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            value = module(levels, PointQuery(coordinates, widths))
        assert relative_error(value, expected.detach()) < 1e-10


@SETTINGS
@given(
    level_sizes=st.tuples(sizes, sizes, sizes),
    grid=grids(),
    option=options,
    as_points=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_equal_formula(level_sizes, grid, option, as_points, seed):
    query, coordinates, widths = grid
    if 2 * len(coordinates) < 8:
        return
    module = make(seed, **option).train()
    levels = [
        torch.randn(2, c, *size, dtype=torch.float64, requires_grad=True)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    wanted = [*levels, *module.parameters()]
    factor = torch.randn(2, 3, len(coordinates), dtype=torch.float64)
    expected = oracle(module, levels, [coordinates] * 2, [widths] * 2).transpose(1, 2)
    expected = torch.autograd.grad((expected * factor).sum(), wanted)
    if as_points:
        points = torch.tensor([[float(v) for v in yx] for yx in coordinates], dtype=torch.float64)
        if not (0 <= points.min() and points.max() <= 1):
            return
        query = PointQuery(points.expand(2, -1, -1), torch.tensor([widths, widths]).double())
    value = module(levels, query).flatten(2)
    grads = torch.autograd.grad((value * factor).sum(), wanted)
    scale = max(float(e.abs().max()) for e in expected)
    for grad, want in zip(grads, expected, strict=True):
        assert (grad - want).abs().max() < 1e-9 * scale


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, partial(nn.GroupNorm, 2), None])
def test_one_map_a_layer_is_kept_for_gradients(norm):
    """What comes into its norm, or without one what leaves its ReLU."""
    module = ImplicitAlignment(
        in_channels=[3], num_classes=2, hidden_dims=(8, 6, 4), norm=norm
    ).train()
    maps = {}

    def pack(kept: torch.Tensor) -> torch.Tensor:
        if kept.shape[2:] == (16, 16):
            maps[kept.untyped_storage().data_ptr()] = kept
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        value = module([torch.randn(1, 3, 5, 5)], GridQuery.regular(16, 16))
    assert [kept.shape[1] for kept in maps.values()] == [8, 6, 4]
    value.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.mlp.layers[1].parameters())


def test_recomputed_statistics_count_once():
    module = make(norm=nn.BatchNorm2d).train()
    levels = [torch.randn(2, c, 3, 4, dtype=torch.float64) for c in CHANNELS]
    kept = copy.deepcopy(module)
    query = GridQuery.regular(5, 7)
    module(levels, query).sum().backward()
    kept(levels, query)  # nothing is computed again without a backward pass
    assert [int(n) for name, n in module.named_buffers() if name.endswith("tracked")] == [1, 1]
    for (name, value), (_, expected) in zip(
        module.named_buffers(), kept.named_buffers(), strict=True
    ):
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    "option",
    [
        *(
            {"local_ensemble": ensemble, "coupled_frequencies": coupled}
            for ensemble, coupled in product([False, True], repeat=2)
        ),
        {"local_ensemble": True, "integrated_encoding": True, "cell_decoding": True},
        {"local_ensemble": True, "ensemble_outputs": True, "integrated_encoding": True},
        {"local_ensemble": True, "hidden_dims": ()},
        {"local_ensemble": True, "feature_slopes": True},
        {"feature_slopes": True, "unfold": True},
    ],
)
def test_tiles_change_nothing(option):
    module = make(**option).eval()
    levels = [
        torch.randn(3, c, s, s + 1).double() for c, s in zip(CHANNELS, (16, 8, 3), strict=True)
    ]
    for query in (
        GridQuery.regular(16, 17),
        GridQuery.regular(40, 31),
        GridQuery.window((1, 2, 5, 9), (13, 50), (16, 17)),
        PointQuery(torch.rand(3, 77, 2), torch.rand(3, 2)),
        GridSubset(GridQuery.regular(40, 31), torch.randint(31, (99, 2))),
    ):
        with torch.no_grad():
            whole = module(levels, query)
            for tile, kept in ((8 * 6 * 90, 0), (8 * 6 * 510, 1 << 20), (8 * 6 * 1500, 1000)):
                bound = module.bind(levels, tile_bytes=tile, kept_bytes=kept)
                assert relative_error(bound(query), whole) < 1e-12
                assert relative_error(bound(query), whole) < 1e-12  # of what is kept


@pytest.mark.parametrize("norm", NORMS)
def test_tiles_cover_the_query_once(norm):
    module = make(norm=NORMS[norm]).eval()
    levels = [torch.randn(2, c, s, s).double() for c, s in zip(CHANNELS, (16, 8, 3), strict=True)]
    query = GridQuery.regular(21, 13)
    with torch.no_grad():
        bound = module.bind(levels, tile_bytes=8 * 6 * 30)
        whole, count = bound(query), torch.zeros(21, 13)
        for (rows, cols), logits in bound.iter_tiles(query):
            count[rows, cols] += 1
            assert torch.equal(logits, whole[:, :, rows, cols])
            assert logits[:, 0].numel() <= 30
    assert torch.equal(count, torch.ones_like(count))


@pytest.mark.parametrize("mode", ["training", "gradients", "norm"])
def test_one_tile_where_queries_are_not_apart_or_learned_from(mode):
    norm = nn.InstanceNorm2d if mode == "norm" else nn.BatchNorm2d
    module = make(norm=norm).train(mode == "training")
    levels = [torch.randn(1, c, 4, 4).double() for c in CHANNELS]
    with torch.set_grad_enabled(mode == "gradients"):
        places = [place for place, _ in module.bind(levels).iter_tiles(GridQuery.regular(300, 9))]
    assert places == [(slice(0, 300), slice(0, 9))]


@SETTINGS
@given(
    level_sizes=st.tuples(sizes, sizes, sizes),
    option=options,
    row=st.integers(0, 12),
    col=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_what_covers_a_query_answers_its_parts(level_sizes, option, row, col, seed):
    """Windows, coarser grids, samples and single ones, of cells that are bound beforehand."""
    module = make(seed, **option).eval()
    levels = [
        torch.randn(2, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    query = GridQuery.window((2, 1, 29, 20), (25, 19), (30, 21))
    index = torch.stack([torch.randint(n, (9,)) for n in query.size], 1)
    part = query[slice(row, 25), slice(col, 19)]
    with torch.no_grad():
        whole = module(levels, query)
        bound = module.bind(levels, tile_bytes=8 * 6 * 200).covering(query)
        assert relative_error(bound(part), whole[:, :, row:, col:]) < 1e-10
        subset = bound(GridSubset(query, index))
        assert relative_error(subset, whole[:, :, index[:, 0], index[:, 1]]) < 1e-10


@SETTINGS
@given(
    batch=st.integers(1, 2),
    level_sizes=st.tuples(sizes, sizes, sizes),
    grid=grids(),
    option=options,
    seed=st.integers(0, 99),
)
def test_subset_is_the_grid_there(batch, level_sizes, grid, option, seed):
    query = grid[0]
    module = make(seed, **option).eval()
    levels = [
        torch.randn(batch, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    index = torch.stack([torch.randint(n, (9,)) for n in query.size], 1)
    expected = module(levels, query)[:, :, index[:, 0], index[:, 1]].detach()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            value = module(levels, GridSubset(query, index))
        assert relative_error(value, expected) < 1e-10
    assert module(levels, GridSubset(query, index[:0])).shape == (batch, 3, 0)


def test_window_is_part_of_the_whole():
    module = make(local_ensemble=True).eval()
    levels = [torch.randn(1, c, s, s).double() for c, s in zip(CHANNELS, (12, 6, 3), strict=True)]
    with torch.no_grad():
        whole = module(levels, GridQuery.regular(48, 48))
        part = module(levels, GridQuery.window((5, 7, 30, 48), (25, 41), (48, 48)))
    assert relative_error(part, whole[:, :, 5:30, 7:48]) < 1e-12


@pytest.mark.parametrize("outputs", [False, True])
@pytest.mark.parametrize("slopes", [False, True])
def test_ensemble_is_continuous_and_nearest_is_not(outputs, slopes):
    levels = [torch.randn(1, c, s, s).double() for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]
    y = torch.linspace(0, 1, 40001, dtype=torch.float64)
    query = PointQuery(torch.stack([y, torch.full_like(y, 0.37)], -1)[None])
    steps = {}
    for ensemble in (False, True):
        option = {"local_ensemble": ensemble, "ensemble_outputs": ensemble and outputs}
        option["feature_slopes"] = slopes
        module = make(**option, num_frequencies=2, norm=None).eval()
        module.encodings[0].frequencies.data.clamp_(max=2)
        with torch.no_grad():
            out = module(levels, query)
        steps[ensemble] = float(out.diff(dim=2).abs().max() / out.std())
    assert steps[True] < 0.05 < steps[False]


def test_bilinear_without_position_is_interpolation():
    module = make(encoding="none", local_ensemble=True)
    levels = [torch.randn(2, c, s, s).double() for c, s in zip(CHANNELS, (12, 6, 3), strict=True)]
    aligned = [
        nn.functional.interpolate(level, size=(24, 24), mode="bilinear", align_corners=False)
        for level in levels
    ]
    expected = module.predictor(module.mlp(torch.cat(aligned, 1)))
    assert relative_error(module(levels, GridQuery.regular(24, 24)), expected.detach()) < 1e-10


def test_slopes_are_of_each_cell():
    """A linear field of one level is then what its cells say, weighted: value and two slopes."""
    module = make(
        in_channels=(1,), num_classes=1, hidden_dims=(), encoding="none", feature_slopes=True
    )
    with torch.no_grad():
        module.predictor.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1))
        module.predictor.bias.zero_()
        level = torch.tensor([[[[2.0, 3.0]]]]).double()
        # Four samples a cell along x at offsets of -3/4 to 3/4, two along y at -1/2 and 1/2.
        value = module([level], GridQuery.regular(2, 8))[0, 0]
    along_x = torch.tensor([-0.75, -0.25, 0.25, 0.75]).repeat(2).double()
    cells = torch.tensor([2.0] * 4 + [3.0] * 4).double()
    for row, along_y in zip(value, (-0.5, 0.5), strict=True):
        assert torch.allclose(row, cells * (1 + 10 * along_y + 100 * along_x), atol=1e-12)


def test_slopes_of_zero_change_nothing():
    """At cells' centres, and where their columns of the first layer are zero."""
    plain, sloped = make(local_ensemble=True), make(local_ensemble=True, feature_slopes=True)
    with torch.no_grad():
        state, columns, start = plain.state_dict(), [], 0
        for encoding, channels in zip(plain.encodings, CHANNELS, strict=True):
            end = start + encoding.num_features + channels
            weight = state["mlp.layers.0.weight"][:, start:end]
            columns += [weight, torch.zeros(len(weight), 2 * channels, 1, 1)]
            start = end
        state["mlp.layers.0.weight"] = torch.cat(columns, 1)
        sloped.load_state_dict(state)
    levels = [torch.randn(2, c, s, s).double() for c, s in zip(CHANNELS, (12, 6, 3), strict=True)]
    for query in (GridQuery.regular(12, 12), GridQuery.regular(25, 7)):
        expected = plain.eval()(levels, query).detach()
        assert relative_error(sloped.eval()(levels, query), expected) < 1e-12


def test_without_footprints_integrated_is_the_plain_function_to_the_bit():
    plain, module = (make(integrated_encoding=option).eval() for option in (False, True))
    levels = [torch.randn(2, c, s, s).double() for c, s in zip(CHANNELS, (12, 6, 3), strict=True)]
    axis = replace(GridAxis.centers(25), footprint=0.0)
    points = PointQuery(torch.rand(2, 9, 2).double())
    for query in (GridQuery(axis, axis), points):
        assert torch.equal(module(levels, query), plain(levels, query))
    wide = module(levels, GridQuery.regular(25, 25))
    assert not torch.equal(wide, module(levels, GridQuery(axis, axis)))


@pytest.mark.parametrize("option", [{}, {"ensemble_outputs": True}, {"hidden_dims": ()}])
def test_constant_levels_give_constants_without_position(option):
    module = make(encoding="none", local_ensemble=True, **option).eval()
    levels = [
        torch.full((1, c, s, s + 1), 0.7).double() for c, s in zip(CHANNELS, (9, 5, 1), strict=True)
    ]
    query = GridQuery.window((1, 0, 5, 9), (13, 50), (16, 17))
    value = module(levels, query).flatten(2)
    assert (value - value[..., :1]).abs().max() < 1e-12


def test_batch_of_one_and_images_are_apart():
    module = make().eval()
    levels = [torch.randn(3, c, s, s).double() for c, s in zip(CHANNELS, (9, 5, 1), strict=True)]
    query = GridQuery.regular(7, 11)
    whole = module(levels, query).detach()
    for b in range(3):
        one = module([level[b : b + 1] for level in levels], query)
        assert relative_error(one, whole[b : b + 1]) < 1e-12


def test_autocast_keeps_coordinates():
    """In bfloat16 the result differs by its rounding alone, however far apart the coordinates."""
    module = make(dtype=torch.float32, in_channels=(8, 8), hidden_dims=(16,)).eval()
    levels = [torch.randn(1, 8, 512, 4), torch.randn(1, 8, 2, 2)]
    with torch.no_grad():
        full = module(levels, GridQuery.regular(512, 4))
        with torch.autocast("cpu", torch.bfloat16):
            half = module(levels, GridQuery.regular(512, 4))
    assert half.dtype == torch.bfloat16
    assert relative_error(half.float(), full.double()) < 0.03


@pytest.mark.parametrize("local_ensemble", [False, True])
@pytest.mark.parametrize("as_points", [False, True])
def test_autocast_keeps_gradients(local_ensemble, as_points):
    """In bfloat16 they differ by its rounding alone, of each level and of each parameter."""
    options = {"hidden_dims": (16,), "num_frequencies": 2, "norm": None}
    module = make(dtype=torch.float32, in_channels=(8, 8), local_ensemble=local_ensemble, **options)
    levels = [torch.randn(2, 8, s, s, requires_grad=True) for s in (24, 6)]
    query = PointQuery(torch.rand(2, 600, 2)) if as_points else GridQuery.regular(24, 25)
    wanted, grads = [*levels, *module.parameters()], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = module(levels, query)
        assert logits.dtype == (torch.bfloat16 if enabled else torch.float32)
        grads.append(torch.autograd.grad((logits.float() - 1).square().mean(), wanted))
    for expected, grad in zip(*grads, strict=True):
        assert float((grad - expected).norm() / expected.norm()) < 0.05


def test_eval_with_gradients_equals_without():
    module = make(dtype=torch.float32).eval()
    levels = [torch.randn(1, c, s, s) for c, s in zip(CHANNELS, (9, 5, 2), strict=True)]
    query = GridQuery.regular(9, 9)
    with torch.no_grad():
        folded = module(levels, query)
    assert relative_error(folded, module(levels, query).detach().double()) < 1e-5


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"in_channels": ()}, "in_channels"),
        ({"in_channels": (3, 0)}, "in_channels"),
        ({"num_classes": 0}, "num_classes"),
        ({"hidden_dims": (4, 0)}, "hidden_dims"),
        ({"ensemble_outputs": True}, "ensemble_outputs needs local_ensemble=True"),
        ({"encoding": "sinus"}, "encoding.*'sinus'"),
        ({"frequency_law": "pow3"}, "frequency_law.*'pow3'"),
        ({"num_frequencies": 0}, "num_frequencies"),
        ({"encoding": "fixed", "coupled_frequencies": True}, "coupled"),
    ],
)
def test_bad_options(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(1, 3, 4, 4), (1, 2, 2, 2)], "levels must be 3 tensors"),
        ([(1, 3, 4, 4), (1, 2, 2, 2), (1, 5, 1, 1)], "channels"),
        ([(1, 3, 4, 4), (2, 2, 2, 2), (1, 4, 1, 1)], "one batch"),
        ([(1, 3, 4, 4), (1, 2, 0, 2), (1, 4, 1, 1)], "not empty"),
        ([(1, 3, 4, 4), (1, 2, 2), (1, 4, 1, 1)], "B, C, h, w"),
    ],
)
def test_bad_levels(shapes, words):
    with pytest.raises(ValueError, match=words):
        make()([torch.zeros(s).double() for s in shapes], GridQuery.regular(2, 2))


def test_points_of_another_batch():
    levels = [torch.randn(2, c, 2, 2).double() for c in CHANNELS]
    with pytest.raises(ValueError, match="2 images"):
        make()(levels, PointQuery(torch.rand(3, 4, 2)))
