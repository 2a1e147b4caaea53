"""Cross entropy over hard pixels."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.modeling import OhemCrossEntropy


def plain_ohem(logits, labels, threshold, min_kept, ignore_value):
    """The definition, pixel by pixel."""
    pixels = logits.movedim(1, -1).reshape(-1, logits.shape[1]).log_softmax(1)
    losses = [
        -float(row[label])
        for row, label in zip(pixels, labels.flatten().tolist(), strict=True)
        if label != ignore_value
    ]
    losses.sort(reverse=True)
    hard = [loss for loss in losses if math.exp(-loss) < threshold]
    kept = losses[: max(min_kept, len(hard))]
    return sum(kept) / len(kept) if kept else 0.0


@given(
    threshold=st.floats(0.05, 0.99),
    min_kept=st.integers(0, 60),
    ignored=st.floats(0, 1),
    seed=st.integers(0, 50),
)
def test_equals_definition(threshold, min_kept, ignored, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 5, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    loss = OhemCrossEntropy(threshold=threshold, min_kept=min_kept)(logits, labels)
    assert float(loss) == pytest.approx(plain_ohem(logits, labels, threshold, min_kept, 255))


def test_threshold_one_is_cross_entropy():
    logits, labels = torch.randn(2, 3, 7, 5), torch.randint(0, 3, (2, 7, 5))
    labels[0, 0] = 9
    loss = OhemCrossEntropy(threshold=1.0, min_kept=0, ignore_value=9)(logits, labels)
    assert torch.allclose(loss, F.cross_entropy(logits, labels, ignore_index=9))


@pytest.mark.parametrize("min_kept", [0, 10, 10**6])
@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_all_ignored_is_zero_with_zero_gradient(threshold, min_kept):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    criterion = OhemCrossEntropy(threshold=threshold, min_kept=min_kept)
    loss = criterion(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("value", [-1, 3, 254, 1000])
def test_label_out_of_range(value):
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    labels[0, 1, 1] = value
    with pytest.raises(ValueError, match=rf"3 classes.*ignore_value 255, got \[{value}\]"):
        OhemCrossEntropy()(torch.zeros(1, 3, 2, 2), labels)


@pytest.mark.parametrize("kwargs", [{"threshold": 0}, {"threshold": 1.1}, {"min_kept": -1}])
def test_bad_options(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        OhemCrossEntropy(**kwargs)


def test_single_precision_under_autocast():
    logits = torch.randn(1, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = OhemCrossEntropy(threshold=1.0)(logits, torch.zeros(1, 8, 8, dtype=torch.int64))
    assert loss.dtype == torch.float32
