"""What the first layer's pre-activations are sums of, against its product with its whole input."""

import pytest
import torch

from ifa_d2.layers import GridQuery, ImplicitAlignment, concatenate_levels

CHANNELS, SIZES = (3, 2, 4), ((8, 9), (4, 5), (3, 2))
OPTIONS = [
    {},
    {"local_ensemble": True},
    {"unfold": True, "local_ensemble": True},
    {"coupled_frequencies": True, "local_ensemble": True},
    {"encoding": "none"},
]
QUERIES = {
    "cells": GridQuery.regular(8, 9),
    "finer": GridQuery.regular(19, 12),
    "window": GridQuery.window((2, 1, 7, 5), (11, 6), (8, 9)),
}


def make(**options):
    """A first layer, levels, and the layer's product with the levels as they are concatenated."""
    torch.manual_seed(0)
    module = ImplicitAlignment(
        in_channels=CHANNELS, num_classes=2, hidden_dims=(6,), num_frequencies=2, **options
    ).double()
    layer = module.mlp.layers[0]
    torch.nn.init.normal_(layer.bias)
    levels = [
        torch.randn(2, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, SIZES, strict=True)
    ]

    def product(query):
        inputs = concatenate_levels(
            levels,
            query,
            module.encodings,
            unfold=module.unfold,
            local_ensemble=module.local_ensemble,
        )
        return torch.nn.functional.conv2d(inputs, layer.weight, layer.bias)

    return module.first_layer(layer.weight, layer.bias), levels, product


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("kept", [False, True])
@torch.no_grad()
def test_runs_of_rows_are_those_of_the_product(options, name, kept):
    query = QUERIES[name]
    layer, levels, product = make(**options)
    expected = product(query)
    positions = layer.positions(levels, query)
    assert positions.size == query.size
    projected = layer.project_touched(levels, positions) if kept else []
    before = [p.values.clone() for p in projected]
    terms = layer.grid_terms(levels, positions, projected)
    for begin in range(0, query.size[0], 3):
        rows = slice(begin, min(begin + 3, query.size[0]))
        torch.testing.assert_close(terms.part(rows).sum(), expected[:, :, rows])
    assert all(torch.equal(p.values, b) for p, b in zip(projected, before, strict=False))
    torch.testing.assert_close(layer(levels, query, projected), expected)


def test_a_level_on_the_grids_own_cells_is_not_looked_up():
    layer, levels, _ = make()
    terms = layer.grid_terms(levels, layer.positions(levels, QUERIES["cells"]))
    assert [base.shape for base, _ in terms.bases] == [(2, 6, 8, 9)]
    assert [table.shape for table, _, _ in terms.tables] == [(2, 6, 4, 5), (2, 6, 3, 2)]


def test_a_window_projects_the_cells_that_answer():
    layer, levels, _ = make()
    projected = layer.project_touched(levels, layer.positions(levels, QUERIES["window"]))
    # Rows 2..7 of 8 and columns 1..5 of 9: the centres asked lie in these cells of each level.
    corners = [(p.top, p.left, *p.values.shape[2:]) for p in projected]
    assert corners == [(2, 1, 5, 4), (1, 0, 3, 3), (0, 0, 3, 2)]
