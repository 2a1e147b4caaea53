"""CARAFE's and SAPA's sums against slow loops, their gradients, and their memory."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ifa_d2.analysis.measure import peak_memory
from ifa_d2.modeling.alignments import Carafe, Sapa
from ifa_d2.modeling.alignments.reassembly import affiliate, reassemble, take_nearest

ROW_BANDS = {"band_bytes": 1}  # one row a band


def neighbours(x: Tensor, y: int, x_: int, k: int) -> Tensor:
    """(C, k * k), zeros beyond the border."""
    out = torch.zeros(x.shape[0], k * k, dtype=x.dtype)
    for n, (i, j) in enumerate(itertools.product(range(k), repeat=2)):
        row, col = y + i - k // 2, x_ + j - k // 2
        if 0 <= row < x.shape[1] and 0 <= col < x.shape[2]:
            out[:, n] = x[:, row, col]
    return out


def slow_reassemble(x: Tensor, kernels: Tensor, k: int, s: int) -> Tensor:
    b, c, h, w = x.shape
    kernels = kernels.view(b, k * k, s, s, h, w)
    out = torch.zeros(b, c, h * s, w * s, dtype=x.dtype)
    for n, y, x_ in itertools.product(range(b), range(h * s), range(w * s)):
        weights = kernels[n, :, y % s, x_ % s, y // s, x_ // s]
        out[n, :, y, x_] = neighbours(x[n], y // s, x_ // s, k) @ weights
    return out


def slow_affiliate(queries: Tensor, keys: Tensor, values: Tensor, k: int, s: int) -> Tensor:
    b, c, h, w = values.shape
    out = torch.zeros(b, c, h * s, w * s, dtype=values.dtype)
    for n, y, x in itertools.product(range(b), range(h * s), range(w * s)):
        similarity = queries[n, :, y, x] @ neighbours(keys[n], y // s, x // s, k)
        weights = torch.exp(similarity - similarity.max())
        out[n, :, y, x] = neighbours(values[n], y // s, x // s, k) @ (weights / weights.sum())
    return out


def maps(*channels: int, scale: int, size: tuple[int, int] = (3, 4), grad: bool = False):
    """Random maps; the first number of channels is that of a map at the scale."""
    torch.manual_seed(0)
    sizes = [tuple(scale * n for n in size), *[size] * (len(channels) - 1)]
    made = [
        torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, sizes, strict=True)
    ]
    return [m.requires_grad_(grad) for m in made]


@pytest.mark.parametrize(("k", "s"), [(1, 2), (3, 1), (3, 2), (5, 3)])
def test_against_loops_band_by_band(k: int, s: int) -> None:
    queries, keys, values, kernels = maps(3, 3, 2, k * k * s * s, scale=s)
    options = {"kernel_size": k, "scale": s, **ROW_BANDS}
    assert torch.allclose(
        reassemble(values, kernels, **options), slow_reassemble(values, kernels, k, s)
    )
    assert torch.allclose(
        affiliate(queries, keys, values, **options), slow_affiliate(queries, keys, values, k, s)
    )


def test_gradients_band_by_band() -> None:
    queries, keys, values, kernels = maps(2, 2, 2, 9 * 4, scale=2, size=(3, 2), grad=True)
    options = {"kernel_size": 3, "scale": 2, **ROW_BANDS}
    assert torch.autograd.gradcheck(partial(reassemble, **options), (values, kernels))
    assert torch.autograd.gradcheck(partial(affiliate, **options), (queries, keys, values))


def test_bands_change_nothing() -> None:
    inputs = maps(3, 3, 2, 100, scale=2, size=(7, 5), grad=True)

    def run(**bands: int) -> list[Tensor]:
        queries, keys, values, kernels = inputs
        a = reassemble(values, kernels, kernel_size=5, scale=2, **bands)
        b = affiliate(queries, keys, values, kernel_size=5, scale=2, **bands)
        return [a, b, *torch.autograd.grad((a.sin() + b.sin()).sum(), inputs)]

    # rows of 2 x 2 x 5 x 25 values: bands of three, the last of one
    bands = run(band_bytes=3 * 2 * 2 * 5 * 25 * 8)
    assert all(torch.allclose(a, b) for a, b in zip(run(), bands, strict=True))


@pytest.mark.parametrize("training", [False, True])
def test_memory_is_bounded(training: bool) -> None:
    """Forward and backward together hold less than the neighbourhoods of the map."""
    x = torch.randn(1, 64, 48, 48, requires_grad=training)
    q, keys = torch.randn(1, 8, 96, 96), torch.randn(1, 8, 48, 48)
    kernels = torch.randn(1, 100, 48, 48).softmax(1).requires_grad_(training)
    neighbourhoods = x.numel() * 25 * 4
    options = {"kernel_size": 5, "scale": 2, "band_bytes": 1 << 20}
    functions = (
        lambda: reassemble(x, kernels, **options),
        lambda: affiliate(q, keys, x, **options),
    )
    for function in functions:

        def step(function=function) -> None:
            with torch.set_grad_enabled(training):
                out = function()
            if training:
                torch.autograd.grad(out.sum(), x)

        assert peak_memory(step, device="cpu") < 0.75 * neighbourhoods


def test_take_nearest() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert take_nearest(x, (3, 4)) is x
    # centres of 5 cells over 3: 0.3, 0.9, 1.5, 2.1, 2.7
    assert take_nearest(x, (5, 4))[0, 0, :, 0].tolist() == [0, 0, 4, 8, 8]
    # centres of 3 cells over 4: 0.67, 2, 3.33
    assert take_nearest(x, (3, 3))[0, 0, 0].tolist() == [0, 2, 3]


def test_carafe_is_the_papers_steps() -> None:
    """Compress, encode, pixel shuffle, normalise, reassemble; from 4 x 5 to 7 x 9 cells."""
    torch.manual_seed(0)
    method = Carafe(in_channels=(3, 3), strides=(4, 8), norm="", compressed_channels=2)
    (layer,) = method.layers
    nn.init.normal_(layer.encode.weight)
    fine, coarse = torch.randn(2, 3, 7, 9), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        (level,) = method([fine, coarse])
        kernels = layer.encode(layer.compress(coarse))
        kernels = nn.functional.pixel_shuffle(kernels, 2).softmax(dim=1)  # (B, 25, 8, 10)
        kernels = nn.functional.pixel_unshuffle(kernels, 2)
        expected = slow_reassemble(coarse, kernels, 5, 2)
    rows = [(2 * i + 1) * 8 // 14 for i in range(7)]
    cols = [(2 * i + 1) * 10 // 18 for i in range(9)]
    assert torch.equal(level[:, :3], fine)
    assert torch.allclose(level[:, 3:], expected[:, :, rows][..., cols], atol=1e-5)


@pytest.mark.parametrize("similarity", ["inner", "bilinear", "gated"])
def test_sapa_is_the_papers_formula(similarity: str) -> None:
    torch.manual_seed(0)
    options = {"similarity": similarity, "embedding_channels": 2, "kernel_size": 3}
    method = Sapa(in_channels=(3, 3), strides=(4, 8), norm="", **options)
    for parameter in method.parameters():
        nn.init.normal_(parameter)
    (layer,) = method.layers
    fine, coarse = torch.randn(1, 3, 7, 9), torch.randn(1, 3, 4, 5)

    def normed(x: Tensor, norm: nn.Module) -> Tensor:
        x = nn.functional.layer_norm(x, x.shape, eps=norm.eps)
        return x * norm.weight + norm.bias

    def embed(conv: nn.Module, x: Tensor) -> Tensor:
        return x if similarity == "inner" else conv.weight[:, :, 0, 0] @ x + conv.bias

    expected = torch.empty_like(fine)
    with torch.no_grad():
        (level,) = method([fine, coarse])
        rows = [[normed(coarse[0, :, i, j], layer.norm_level) for j in range(5)] for i in range(4)]
        cells = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (C, h, w)
        keys = torch.stack(
            [
                torch.stack([embed(layer.key, cells[:, i, j]) for j in range(5)], dim=1)
                for i in range(4)
            ],
            dim=1,
        )
        for y, x in itertools.product(range(7), range(9)):
            # the coarser cell that the centre of its upsampled cell lies in
            i, j = (2 * y + 1) * 8 // 14 // 2, (2 * x + 1) * 10 // 18 // 2
            query = embed(layer.query, normed(fine[0, :, y, x], layer.norm_guide))
            if similarity == "gated":
                own = cells[:, i, j]
                gate = torch.sigmoid(embed(layer.gate, own))
                query = gate * query + (1 - gate) * embed(layer.level_query, own)
            weights = (query @ neighbours(keys, i, j, 3)).softmax(0)
            expected[0, :, y, x] = neighbours(coarse[0], i, j, 3) @ weights
    assert torch.equal(level[:, :3], fine)
    assert torch.allclose(level[:, 3:], expected, atol=1e-5)


def test_sapa_follows_the_guide() -> None:
    """A border between two coarse cells lands where the guide has it."""
    method = Sapa(in_channels=(2, 2), strides=(1, 4), norm="", similarity="inner", kernel_size=3)
    for norm in (method.layers[0].norm_guide, method.layers[0].norm_level):
        nn.init.constant_(norm.weight, 10.0)
    side = torch.tensor([-1.0, 1.0])
    fine = side[(torch.arange(32) >= 14).long()]  # a quarter of a coarse cell off its border
    coarse = side[(torch.arange(8) >= 4).long()]
    fine, coarse = (
        torch.stack([v, -v])[None, :, None].expand(-1, -1, n, -1)
        for v, n in ((fine, 32), (coarse, 8))
    )
    with torch.no_grad():
        (level,) = method([fine.contiguous(), coarse.contiguous()])
    inside = level[0, 2:, 8:-8, 8:-8]
    assert torch.allclose(inside, fine[0, :, 8:-8, 8:-8], atol=1e-3)
    assert math.isclose(float(level[0, 2, 16, 14]), 1.0, abs_tol=1e-3)
