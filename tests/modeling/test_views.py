"""Sizes and windows of a picture, and the samples that each answers."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.choices import BLENDS
from ifa_d2.layers import GridAxis
from ifa_d2.modeling.views import Views, slide


@given(
    length=st.integers(1, 60),
    window=st.none() | st.integers(1, 70),
    stride=st.integers(1, 70),
    total=st.integers(1, 90),
)
def test_windows_cover_an_axis(length, window, stride, total):
    stride = min(stride, window or stride)
    spans = slide(length, window, stride, total)
    side = min(window or length, length)
    for span in spans:
        assert 0 <= span.begin < span.end <= length
        assert span.end - span.begin == side
        inside = [
            j
            for j in range(total)
            if span.begin <= Fraction((2 * j + 1) * length, 2 * total) < span.end
        ]
        assert inside == list(range(total))[span.samples]
        # A sample's place in the picture is that in the window.
        places = span.axis().coordinates * side + span.begin
        expected = GridAxis.centers(total)[span.samples].coordinates * length
        assert torch.allclose(places, expected, atol=1e-9)
    counts = torch.zeros(total)
    for span in spans:
        counts[span.samples] += 1
    assert counts.min() >= 1
    for span in spans:  # alike
        assert torch.equal(span.weights, (1 / counts.double()[span.samples]).float())
    if total >= length:  # no window is without a sample
        assert spans[0].begin == 0 and spans[-1].end == length
        steps = [b.begin - a.begin for a, b in itertools.pairwise(spans)]
        assert all(step == stride for step in steps[:-1])
        assert all(0 < step <= stride for step in steps)


def test_share_of_padding_scales_the_samples():
    (span,) = slide(30, None, 1, 7)
    share = Fraction(30, 32)
    assert torch.allclose(span.axis(share).coordinates, span.axis().coordinates * 30 / 32)


def test_windows_of_the_paper():
    """769 x 769 windows with stride 2/3 over a picture of 1024 x 2048."""
    views = Views(window=(769, 769))
    strips = views.strips((1024, 2048), (1024, 2048))
    assert views.strides() == (513, 513)
    assert [strip.rows.begin for strip in strips] == [0, 255]
    assert [col.begin for col in strips[0].cols] == [0, 513, 1026, 1279]


@given(
    image=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    output=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    stride=st.floats(0.2, 1),
    blend=st.none() | st.sampled_from(BLENDS),
)
def test_weights_sum_to_one_for_each_size(image, output, window, stride, blend):
    views = Views(scales=(0.5, 1.0, 1.3), window=window, stride=stride, blend=blend)
    strips = views.strips(image, output)
    for size in views.sizes(image):
        total = torch.zeros(output)
        for strip in strips:
            if strip.size == size:
                for col in strip.cols:
                    weights = strip.rows.weights[:, None] * col.weights
                    total[strip.rows.samples, col.samples] += weights
        repeats = views.sizes(image).count(size)  # tiny pictures have two scales of one size
        assert torch.allclose(total, torch.full(output, float(repeats)), atol=1e-4)


def test_gaussian_weights_fall_to_the_edges():
    """As the densities of normal distributions about the windows' middles, lowered."""
    spans = slide(200, 80, 40, 200, blend="gaussian")
    places = torch.arange(200).double() + 0.5
    density = torch.stack([torch.exp(-0.5 * ((places - 40 * i - 40) / 10) ** 2) for i in range(4)])
    expected = (density - torch.exp(torch.tensor(-0.5 * 3.5**2))).clamp(min=0)
    expected[0, :5] = expected[3, -5:] = 1  # where there is no other
    expected /= expected.sum(0)
    for i, span in enumerate(spans):
        assert torch.allclose(span.weights.double(), expected[i, span.samples], atol=1e-6)
    middle = spans[1]
    assert middle.weights[:5].max() < 1e-9 and middle.weights[-5:].max() < 1e-9
    assert (middle.weights[6:30] > middle.weights[5:29]).all()
    assert torch.allclose(middle.weights, middle.weights.flip(0), atol=1e-6)
    assert torch.equal(spans[0].weights[:40], torch.ones(40))
    # Another grid of samples has the weights of the same places.
    finer = slide(200, 80, 40, 600, blend="gaussian")
    assert torch.allclose(finer[1].weights[1::3], middle.weights, atol=1e-6)


@given(
    length=st.integers(1, 90),
    cells=st.integers(1, 4),
    unit=st.integers(1, 8),
    share=st.floats(0.1, 1),
    total=st.integers(1, 90),
)
def test_windows_at_multiples_of_a_length(length, cells, unit, share, total):
    window, stride = cells * unit + unit // 2, max(1, int(share * cells)) * unit
    spans = slide(length, window, stride, total, multiple=unit)
    assert all(span.begin % unit == 0 for span in spans)
    assert all(span.end - span.begin == min(window, length) for span in spans[:-1])
    counts = torch.zeros(total)
    for span in spans:
        counts[span.samples] += 1
        assert window - unit < span.end - span.begin or span.end == length
    assert counts.min() >= 1


def test_sizes():
    assert Views().sizes((30, 41)) == [(30, 41)]
    assert Views(scales=(0.5, 1, 1.75)).sizes((30, 41)) == [(15, 21), (30, 41), (53, 72)]
    assert Views(scales=(0.01,)).sizes((30, 41)) == [(1, 1)]
    assert Views(short_edges=(60,)).sizes((30, 41)) == [(60, 82)]
    assert Views(short_edges=(60,), max_size=41).sizes((30, 41)) == [(30, 41)]


def test_strides():
    assert Views(window=(9, 768), stride=2 / 3).strides() == (6, 512)
    assert Views(window=(10, 10), stride=(0.25, 7)).strides() == (3, 7)
    assert Views(window=(10, 10), stride=1.0).strides() == (10, 10)
    assert Views(window=(10, 10), stride=1).strides() == (1, 1)


def test_shown_once():
    assert Views(scales=(1.0,)).trivial and Views().trivial
    for kwargs in ({"scales": (1, 1)}, {"flip": True}, {"window": (9, 9)}, {"short_edges": (9,)}):
        assert not Views(**kwargs).trivial
    assert Views(window=(30, 41)).show_once((30, 41))
    assert not Views(window=(30, 40)).show_once((30, 41))
    assert Views(short_edges=(30,)).show_once((30, 41))
    assert not Views(scales=(1.0,), flip=True).show_once((30, 41))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"scales": ()}, r"scales must be one or more numbers above 0, got \(\)"),
        ({"scales": (1.0, 0.0)}, "scales must be"),
        ({"scales": (float("nan"),)}, "scales must be"),
        ({"scales": (1.0,), "short_edges": (40,)}, "exclude each other"),
        ({"short_edges": ()}, "short_edges must be one or more"),
        ({"short_edges": (40.5,)}, "short_edges must be whole numbers"),
        ({"short_edges": (40,), "max_size": 0}, "max_size must be whole numbers of 1 or more"),
        ({"window": (40,)}, "window must be 2 whole numbers"),
        ({"window": (40, 0)}, "window must be whole numbers of 1 or more"),
        ({"window": (8, 8), "stride": 9}, "at most the window's 8, got 9"),
        ({"stride": 0}, "stride must be 1 pixel or more, got 0"),
        ({"stride": 1.5}, r"stride must be a fraction in \(0, 1\].*got 1.5"),
        ({"stride": 0.0}, "stride must be a fraction"),
        ({"stride": (0.5, 0.5, 0.5)}, "stride must be one number, or two"),
        ({"blend": "linear"}, r"blend must be one of \('constant', 'gaussian'\), or None, got 'l"),
    ],
)
def test_bad_views(kwargs, words):
    with pytest.raises(ValueError, match=words):
        Views(**kwargs)
