"""The traceable evaluation against the layer's own, and what a recorded program keeps of it."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ifa_d2.layers import GridAxis, GridQuery
from ifa_d2.layers.traceable import TraceableDecoder, span_taps

from .test_alignment import CHANNELS, NORMS, make, options, relative_error, sizes


@st.composite
def spans(draw) -> tuple[int, int, int]:
    """Queries of an axis, the pixels they cover, and the pixels that the levels cover."""
    extent = draw(st.integers(1, 40))
    return draw(st.integers(1, 17)), draw(st.integers(1, extent)), extent


def axis(n: int, length: int, extent: int) -> GridAxis:
    """Samples as wide as they lie apart, and as a pixel at least."""
    return replace(GridAxis.window(0, length, n, extent), footprint=max(length / n, 1) / extent)


@given(
    batch=st.integers(1, 2),
    level_sizes=st.tuples(sizes, sizes, sizes),
    rows=spans(),
    cols=spans(),
    option=options,
    norm=st.sampled_from(sorted(NORMS)),
    seed=st.integers(0, 99),
)
def test_equals_the_layer(batch, level_sizes, rows, cols, option, norm, seed):
    module = make(seed, norm=NORMS[norm], **{**option, "ensemble_outputs": False}).eval()
    levels = [
        torch.randn(batch, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, level_sizes, strict=True)
    ]
    with torch.no_grad():
        expected = module(levels, GridQuery(axis(*rows), axis(*cols)))
    value = TraceableDecoder(module)(levels, *zip(rows, cols, strict=True))
    assert relative_error(value, expected) < 1e-10
    if norm == "GN":
        return  # over groups of two channels it amplifies rounding without bound
    value = TraceableDecoder(module.float())(
        [level.float() for level in levels], *zip(rows, cols, strict=True)
    )
    # The highest frequencies of 2e^l turn an offset's rounding into an angle's.
    tolerance = 1e-3 if option.get("frequency_law") == "2exp" else 1e-5
    tolerance = max(tolerance, 1e-4 * option["feature_slopes"])
    assert relative_error(value, expected) < tolerance


@given(span=spans(), m=st.integers(1, 50), ensemble=st.booleans())
def test_taps_are_those_of_the_exact_axis(span, m, ensemble):
    taps, expected = span_taps(*span, m, ensemble=ensemble), axis(*span).taps(m, ensemble)
    assert torch.equal(taps.cells, expected.cells)
    assert torch.allclose(taps.offsets, expected.offsets, rtol=0, atol=1e-12)
    assert torch.allclose(taps.footprints, expected.footprints, rtol=1e-12, atol=0)
    if ensemble:
        assert torch.allclose(taps.weights, expected.weights, rtol=0, atol=1e-12)


def test_cells_are_exact_at_sizes_beyond_single_precision():
    n, length, extent, m = 100_003, 99_991, 100_000, 25_000
    cells = span_taps(n, length, extent, m, ensemble=False).cells[0]
    for j in (0, 1, 49_999, 50_000, 77_777, n - 1):
        assert cells[j] == Fraction((2 * j + 1) * length * m, 2 * n * extent).__floor__()


class _Decode(nn.Module):
    """Two levels in, logits at twice the finer level's size out."""

    def __init__(self, decoder: TraceableDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        extent = (fine.shape[2] * 4, fine.shape[3] * 4)
        size = (fine.shape[2] * 2, fine.shape[3] * 2)
        return self.decoder([fine, coarse], size, extent, extent)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("unfold", [False, True])
def test_recorded_at_one_size_it_holds_at_another(ensemble, coupled, unfold):
    module = make(
        in_channels=(3, 2), local_ensemble=ensemble, coupled_frequencies=coupled, unfold=unfold
    ).eval()
    wrapped = _Decode(TraceableDecoder(module))

    def levels(h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
        fine = torch.randn(1, 3, h, w, dtype=torch.float64)
        return fine, torch.randn(1, 2, (h + 1) // 2, (w + 1) // 2, dtype=torch.float64)

    dims = {i: {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} for i in range(2)}
    exported = torch.export.export(wrapped, levels(8, 10), dynamic_shapes=(dims[0], dims[1]))
    traced = torch.jit.trace(wrapped, levels(8, 10), check_trace=False)
    for size in ((8, 10), (7, 13), (21, 5)):
        given_levels = levels(*size)
        with torch.no_grad():
            expected = module(given_levels, GridQuery.regular(2 * size[0], 2 * size[1]))
        for program in (exported.module(), traced):
            assert relative_error(program(*given_levels), expected) < 1e-10


def test_the_layer_is_not_changed():
    module = make().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    decoder = TraceableDecoder(module)
    for parameter in decoder.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert module.mlp.layers[0].norm is not None
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_training_mode_is_an_error():
    with pytest.raises(ValueError, match="eval mode"):
        TraceableDecoder(make().train())
