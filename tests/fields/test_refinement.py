"""Labels of a fine grid, asked where coarse ones leave a doubt."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.analysis.measure import peak_memory
from ifa_d2.fields import refined_labels
from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import Refinement, SegmentationField


def make_field(num_classes: int = 4, size: int = 16) -> SegmentationField:
    """Smooth regions: features that change slowly, interpolated, without position."""
    torch.manual_seed(3)
    alignment = ImplicitAlignment(
        in_channels=(6, 6),
        num_classes=num_classes,
        hidden_dims=(16,),
        encoding="none",
        local_ensemble=True,
    ).eval()
    torch.nn.init.normal_(alignment.predictor.weight)
    levels = [
        torch.nn.functional.interpolate(torch.randn(1, 6, 4, 4), size=(n, n), mode="bicubic")
        for n in (size, size // 2)
    ]
    return SegmentationField(alignment, levels, (4 * size, 4 * size))


def refine(field, size, **kwargs):
    query = field.query(size)
    return refined_labels(field.bound, query, Refinement(**kwargs))


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    levels=st.integers(1, 4),
    classes=st.integers(1, 4),
)
def test_without_threshold_it_is_exact(height, width, levels, classes):
    field = make_field(classes)
    size = (height, width)
    labels, share = refine(field, size, threshold=float("inf"), levels=levels)
    assert torch.equal(labels.byte(), field.labels(size))
    assert share > 1 or classes == 1  # where there is nothing to ask


def test_few_are_asked_and_almost_all_agree():
    field = make_field(size=64)
    dense = field.labels((256, 256))
    assert len(dense.unique()) > 2
    shares, errors = [], []
    for threshold in (0.0, 0.1, 0.25):
        labels, share = refine(field, (256, 256), threshold=threshold)
        shares.append(share)
        errors.append(float((labels != dense).float().mean()))
    assert shares == sorted(shares) and shares[1] < 0.2
    assert errors == sorted(errors, reverse=True) and errors[1] < 1e-3 and errors[2] < 1e-4
    assert torch.equal(field.refined_labels((256, 256)), labels.byte())


def test_budget_is_kept_and_spent_on_the_least_sure():
    field = make_field(size=64)
    dense = field.labels((256, 256))
    labels, share = refine(field, (256, 256), threshold=float("inf"), budget=0.05)
    assert share == pytest.approx(1 / 16 + 0.05 / 4 + 0.05, abs=1e-4)
    errors = [float((labels != dense).float().mean())]
    for budget in (0.01, 1e-4):
        labels, _ = refine(field, (256, 256), threshold=float("inf"), budget=budget)
        errors.append(float((labels != dense).float().mean()))
    assert errors == sorted(errors) and errors[0] < 0.3 * errors[-1]
    _, small = refine(field, (256, 256), threshold=0.0, budget=1.0)
    assert small < 0.5


def test_window_and_odd_sizes_equal_dense():
    field = make_field()
    window, size = (3, 5, 40, 50), (53, 77)
    labels = field.refined_labels(size, window, Refinement(threshold=float("inf"), levels=3))
    assert torch.equal(labels, field.labels(size, window))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"budget": 0.0}, "budget"),
        ({"budget": 1.5}, "budget"),
        ({"levels": 0}, "levels"),
        ({"levels": 100}, "levels must be 1 to 12, got 100"),
    ],
)
def test_bad_options(kwargs, words):
    with pytest.raises(ValueError, match=words):
        Refinement(**kwargs)


@pytest.mark.parametrize("across", [False, True])
def test_memory_beyond_the_labels_of_a_strip_does_not_grow(across):
    """Of one sample across: tensors that go along the whole strip would double with it."""
    field, beyond = make_field(), []
    for length in (1 << 20, 1 << 21):
        size = (1, length) if across else (length, 1)
        beyond.append(peak_memory(lambda size=size: field.refined_labels(size), warmup=0) - length)
    assert beyond[1] < 1.2 * beyond[0]


def test_long_strips_equal_dense():
    field = make_field(size=64)
    exact = Refinement(threshold=float("inf"))
    for size in ((40_001, 2), (3, 40_001)):
        assert torch.equal(field.refined_labels(size, refinement=exact), field.labels(size))


@pytest.mark.parametrize("threshold", [0.1, float("inf")])
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("ensemble", [False, True])
def test_blocks_change_nothing(threshold, levels, ensemble):
    field = make_field(size=64)
    field.alignment.local_ensemble = ensemble
    query, refinement = field.query((251, 130)), Refinement(threshold=threshold, levels=levels)
    whole, _ = refined_labels(field.bound, query, refinement)
    for limits in (
        {"max_bytes": 1},
        {"max_bytes": 200_000},
        {"max_side": 24},
        {"max_samples": 2000},
    ):
        labels, _ = refined_labels(field.bound, query, refinement, **limits)
        assert torch.equal(labels, whole)
