"""Losses against their definitions, on grids and at points."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ifa_d2.modeling import DiceLoss, FocalLoss, LovaszSoftmaxLoss, OhemCrossEntropy

WEIGHTS = [0.5, 2.0, 0.0, 1.25]
LOSSES = [
    OhemCrossEntropy(threshold=0.7, min_kept=0),
    OhemCrossEntropy(threshold=0.7, min_kept=10),
    OhemCrossEntropy(threshold=0.7, min_kept=10**6),
    OhemCrossEntropy(threshold=1.0, class_weights=WEIGHTS, label_smoothing=0.1),
    FocalLoss(),
    FocalLoss(class_weights=WEIGHTS),
    DiceLoss(),
    DiceLoss(smooth=0.0),
    LovaszSoftmaxLoss(),
]


def some_batch(seed=0, ignored=0.3, size=(5, 6)):
    """Logits of 4 classes in double precision, and labels, of which many are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


def labelled_pixels(logits, labels):
    """Logits (N, K) and labels (N,) of the pixels that count, one after the other."""
    keep = labels != 255
    return logits.movedim(1, -1)[keep], labels[keep]


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


def first_ohem(logits, labels, *, threshold, min_kept, share):
    """The loss as the first release computed it, operation by operation."""
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    keep = labels != 255
    if threshold < 1:
        hard = -math.log(threshold)
        ranked = losses.detach().masked_fill(~keep, -1).flatten()
        count = min(round(min_kept * share), ranked.numel())
        if count > 0:
            least = ranked.topk(count, sorted=False).values.min()
            keep = keep & (losses.detach() >= least.clamp(max=hard))
        else:
            keep = keep & (losses.detach() > hard)
    return (losses * keep).sum() / keep.sum().clamp(min=1)


@pytest.mark.parametrize("threshold, min_kept", [(0.7, 0), (0.7, 20), (0.3, 10**6), (1.0, 5)])
@pytest.mark.parametrize("size", [(5, 6), (31,)])
def test_plain_ohem_is_what_it_was_to_the_last_bit(threshold, min_kept, size):
    logits, labels = some_batch(size=size)
    logits = logits.float().requires_grad_()
    options = {"threshold": threshold, "min_kept": min_kept}
    results = []
    for loss in (
        OhemCrossEntropy(**options)(logits, labels, share=0.5),
        first_ohem(logits, labels, share=0.5, **options),
    ):
        results.append([loss, torch.autograd.grad(loss, logits)[0]])
    for value, expected in zip(*results, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("criterion", LOSSES, ids=repr)
def test_all_ignored_is_zero_with_zero_gradient(criterion):
    logits = torch.randn(2, 4, 4, 4, requires_grad=True)
    loss = criterion(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("criterion", LOSSES, ids=repr)
def test_ignored_pixels_change_nothing(criterion):
    logits, labels = some_batch()
    logits.requires_grad_()
    loss = criterion(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    assert not gradient.movedim(1, -1)[labels == 255].any()
    alone, classes = labelled_pixels(logits, labels)
    assert torch.allclose(criterion(alone.t()[None], classes[None]), loss)


@pytest.mark.parametrize("criterion", LOSSES, ids=repr)
def test_places_have_no_order(criterion):
    """A grid is the points of its cells, in any order."""
    logits, labels = some_batch()
    order = torch.randperm(30)
    points = [logits.flatten(2)[:, :, order], labels.flatten(1)[:, order]]
    assert torch.allclose(criterion(*points), criterion(logits, labels))


@pytest.mark.parametrize("criterion", LOSSES, ids=repr)
def test_right_and_sure_is_better_than_wrong(criterion):
    labels = torch.tensor([[0, 1, 3, 0, 255, 1]])
    right = 20 * F.one_hot(labels % 255, 4).movedim(-1, 1).double()
    loss, wrong = criterion(right, labels), criterion(right.roll(1, dims=1), labels)
    best = 0.5 if getattr(criterion, "label_smoothing", 0) else 1e-4
    assert 0 <= loss < best * wrong


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_weights_and_smoothing_are_those_of_torch(weights, smoothing):
    logits, labels = some_batch()
    expected = F.cross_entropy(
        logits,
        labels,
        weight=None if weights is None else torch.tensor(weights).double(),
        label_smoothing=smoothing,
        ignore_index=255,
    )
    options = {"class_weights": weights, "label_smoothing": smoothing}
    for criterion in (OhemCrossEntropy(threshold=1.0, **options), FocalLoss(gamma=0, **options)):
        assert torch.allclose(criterion(logits, labels), expected)


def test_weights_do_not_choose_hard_pixels():
    logits, labels = some_batch()
    rows, classes = labelled_pixels(logits, labels)
    chosen = rows.softmax(1).gather(1, classes[:, None])[:, 0] < 0.6
    weights = torch.tensor(WEIGHTS).double()
    expected = F.cross_entropy(rows[chosen], classes[chosen], weight=weights, label_smoothing=0.1)
    criterion = OhemCrossEntropy(
        threshold=0.6, min_kept=0, class_weights=WEIGHTS, label_smoothing=0.1
    )
    assert torch.allclose(criterion(logits, labels), expected)


def test_focal_equals_definition():
    logits, labels = some_batch()
    rows, classes = labelled_pixels(logits, labels)
    p = rows.softmax(1).gather(1, classes[:, None])[:, 0]
    expected = (-((1 - p) ** 1.5) * p.log()).mean()
    assert torch.allclose(FocalLoss(gamma=1.5)(logits, labels), expected)
    weights = torch.tensor(WEIGHTS).double()[classes]
    expected = (-weights * (1 - p) ** 2 * p.log()).sum() / weights.sum()
    assert torch.allclose(FocalLoss(class_weights=WEIGHTS)(logits, labels), expected)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_equals_definition(smooth):
    logits, labels = some_batch()
    labels[labels == 2] = 1  # a class that is not there
    rows, classes = labelled_pixels(logits, labels)
    p, losses = rows.softmax(1), []
    for k in classes.unique().tolist():
        g = (classes == k).double()
        top, bottom = 2 * (p[:, k] * g).sum() + smooth, p[:, k].sum() + g.sum() + smooth
        losses.append(1 - top / bottom)
    assert len(losses) == 3
    assert torch.allclose(DiceLoss(smooth=smooth)(logits, labels), sum(losses) / 3)


def test_lovasz_of_sure_answers_is_one_minus_iou():
    """At 0 and 1 the extension is the set function itself (Berman et al. 2018, Sec. 2)."""
    _, labels = some_batch()
    answers = torch.randint(0, 4, labels.shape, generator=torch.Generator().manual_seed(3))
    logits = 1000 * F.one_hot(answers, 4).movedim(-1, 1).double()
    keep = labels != 255
    ious = []
    for k in range(4):
        given, wanted = (answers == k) & keep, labels == k
        ious.append((given & wanted).sum() / (given | wanted).sum())
    loss = LovaszSoftmaxLoss()(logits, labels)
    assert loss.item() == pytest.approx(1 - sum(ious).item() / 4)


def test_lovasz_equals_the_integral_over_thresholds():
    """The extension is the set function's mean over the levels of the errors (Lovász 1983)."""
    logits, labels = some_batch()
    rows, classes = labelled_pixels(logits, labels)
    p, losses = rows.softmax(1), []
    for k in range(4):
        wanted = classes == k
        errors = (wanted.double() - p[:, k]).abs()
        levels = [0.0, *errors.sort().values.tolist()]
        integral = 0.0
        for low, high in pairwise(levels):
            wrong = errors >= high
            jaccard = (wanted & ~wrong).sum() / (wanted | wrong).sum()
            integral += (high - low) * (1 - jaccard.item())
        losses.append(integral)
    assert LovaszSoftmaxLoss()(logits, labels).item() == pytest.approx(sum(losses) / 4)


@pytest.mark.parametrize(
    "criterion, kwargs",
    [
        (OhemCrossEntropy, {"threshold": 0}),
        (OhemCrossEntropy, {"threshold": 1.1}),
        (OhemCrossEntropy, {"min_kept": -1}),
        (OhemCrossEntropy, {"class_weights": [1.0, -1.0]}),
        (OhemCrossEntropy, {"class_weights": [0.0, 0.0]}),
        (FocalLoss, {"class_weights": [1.0, math.nan]}),
        (FocalLoss, {"label_smoothing": 1.0}),
        (FocalLoss, {"gamma": -1.0}),
        (FocalLoss, {"gamma": 0.5}),
        (DiceLoss, {"smooth": -1.0}),
    ],
)
def test_bad_options(criterion, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        criterion(**kwargs)


@pytest.mark.parametrize("criterion", LOSSES, ids=repr)
def test_single_precision_under_autocast(criterion):
    logits, labels = some_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, criterion(logits.bfloat16().float(), labels))
