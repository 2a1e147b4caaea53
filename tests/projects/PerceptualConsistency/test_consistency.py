"""Perceptual consistency against its definition, and as a loss."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from consistency import one_hot, perceptual_consistency, perceptual_consistency_loss
from torch import Tensor

from ifa_d2.analysis.measure import peak_memory

CLASSES = 4


def frames(
    height: int = 5, width: int = 7, channels: int = 6, *, other: tuple[int, int] = (6, 3)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features and labels of two frames, in float64."""
    sizes = (height, width), other
    features = [torch.randn(channels, *size, dtype=torch.float64) for size in sizes]
    return *features, *(torch.randint(0, CLASSES, size) for size in sizes)


def scores(*labels: Tensor) -> list[Tensor]:
    return [one_hot(each, CLASSES, torch.float64) for each in labels]


def definition(
    features_a: Tensor, features_b: Tensor, labels_a: Tensor, labels_b: Tensor
) -> Tensor:
    """The formula for each position of the first frame, one after the other."""
    unit_a, unit_b = (F.normalize(each.flatten(1), dim=0).t() for each in (features_a, features_b))
    values = []
    for feature, label in zip(unit_a, labels_a.flatten(), strict=True):
        similarity = torch.stack([torch.dot(feature, other) for other in unit_b])
        equal = (labels_b.flatten() == label).double()
        best, matched, mean = similarity.max(), (similarity * equal).max(), similarity.mean()
        values.append((matched - mean) / (best - mean))
    return torch.stack(values).view_as(labels_a)


def close(value: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("max_bytes", [1, 3000, 1 << 20])
def test_both_directions_are_the_definition(max_bytes: int) -> None:
    """Frames are not square, and not of one size; bands are of one row, of some, and of all."""
    fa, fb, la, lb = frames()
    pair = perceptual_consistency(fa, fb, *scores(la, lb), max_bytes=max_bytes)
    close(pair.forward, definition(fa, fb, la, lb))
    close(pair.backward, definition(fb, fa, lb, la))
    expected = min(definition(fa, fb, la, lb).mean(), definition(fb, fa, lb, la).mean())
    close(pair.score, expected)
    turned = perceptual_consistency(fb, fa, *scores(lb, la), max_bytes=max_bytes)
    close(turned.score, pair.score)


def test_positions_and_classes_may_be_permuted() -> None:
    fa, fb, la, lb = frames(other=(5, 7))
    pair = perceptual_consistency(fa, fb, *scores(la, lb))
    order, names = torch.randperm(35), torch.randperm(CLASSES)
    shuffled_f = fb.flatten(1)[:, order].view_as(fb)
    shuffled_l = names[lb.flatten()[order]].view_as(lb)
    other = perceptual_consistency(fa, shuffled_f, *scores(names[la], shuffled_l))
    close(other.forward, pair.forward)
    close(other.backward, pair.backward.flatten()[order].view_as(lb))


def test_equal_frames_are_consistent_and_no_position_is_more() -> None:
    fa, _, la, _ = frames()
    equal = perceptual_consistency(fa, fa, *scores(la, la))
    close(equal.forward, torch.ones(5, 7, dtype=torch.float64))
    wrong = la.clone()
    wrong[2, 3] = (wrong[2, 3] + 1) % CLASSES
    changed = perceptual_consistency(fa, fa, *scores(la, wrong))
    assert changed.forward.max() <= 1 + 1e-12
    assert changed.score < 1
    assert changed.forward[2, 3] < 1


def test_a_class_that_the_other_frame_has_nowhere() -> None:
    """pc is -a / (u - a), which may be far below 0; limited it is 0."""
    fa, fb, la, lb = frames()
    fa, fb = fa.abs(), fb.abs()
    lb[lb == 0] = 1
    la[0, 0] = 0
    pair = perceptual_consistency(fa, fb, *scores(la, lb))
    similarity = F.normalize(fa[:, 0, 0], dim=0) @ F.normalize(fb.flatten(1), dim=0)
    expected = -similarity.mean() / (similarity.max() - similarity.mean())
    close(pair.forward[0, 0], expected)
    assert expected < -1
    limited = perceptual_consistency(fa, fb, *scores(la, lb), clamp=True)
    assert limited.forward[0, 0] == 0
    close(limited.forward, pair.forward.clamp(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_features_tell_nothing(dtype: torch.dtype) -> None:
    feature = torch.rand(9, 1, 1, dtype=dtype)
    fa, fb = feature.expand(9, 4, 5), 3 * feature.expand(9, 6, 5)
    la, lb = torch.ones(4, 5, dtype=torch.int64), torch.ones(6, 5, dtype=torch.int64)
    la[1, 2], lb[3, 3] = 2, 0
    pair = perceptual_consistency(fa, fb, one_hot(la, CLASSES), one_hot(lb, CLASSES))
    assert torch.equal(pair.forward, (la == 1).to(dtype))
    assert torch.equal(pair.backward, (lb == 1).to(dtype))


def test_positions_without_a_label_neither_ask_nor_answer() -> None:
    fa, fb, la, lb = frames()
    la[:2], lb[:, 1] = CLASSES, -1
    pair = perceptual_consistency(fa, fb, *scores(la, lb))
    assert torch.equal(pair.forward.isnan(), la == CLASSES)
    kept = definition(fa[:, 2:], fb[:, :, [0, 2]], la[2:], lb[:, [0, 2]])
    close(pair.forward[2:], kept)
    close(pair.means[0], kept.mean())
    nothing = perceptual_consistency(fa, fb, *scores(la, torch.full_like(lb, CLASSES)))
    assert nothing.score.isnan() and nothing.backward.isnan().all()


def test_memory_grows_with_a_row_alone() -> None:
    """A quarter of the matrix of 30 x 40 positions would be 5.5 MiB."""
    features, labels = torch.randn(2, 30, 40), torch.randint(0, CLASSES, (30, 40))
    one = one_hot(labels, CLASSES)
    compare = partial(perceptual_consistency, features, features, one, one)
    peaks = [peak_memory(partial(compare, max_bytes=size)) for size in (1 << 17, 1 << 26)]
    assert peaks[0] < 1 << 20 < peaks[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda fa, sa: (fa[:, :, 1:], sa), "features_a and scores_a"),
        (lambda fa, sa: (fa[1:], sa), "as many channels"),
        (lambda fa, sa: (fa, sa[1:]), "as many channels"),
        (lambda fa, sa: (fa, sa[0]), "features_a and scores_a"),
    ],
)
def test_shapes_that_do_not_fit(changed, message: str) -> None:
    fa, fb, la, lb = frames()
    sa, sb = scores(la, lb)
    fa, sa = changed(fa, sa)
    with pytest.raises(ValueError, match=message):
        perceptual_consistency(fa, fb, sa, sb)


def test_the_loss_of_certain_labels_is_that_of_the_score() -> None:
    fa, fb, la, lb = frames(other=(5, 7))
    pair = perceptual_consistency(fa, fb, *scores(la, lb))
    logits = [1e4 * each[None] for each in scores(la, lb)]
    close(perceptual_consistency_loss(fa[None], fb[None], *logits), 1 - pair.score)


def test_the_loss_has_the_gradient_of_its_values() -> None:
    fa, fb, *_ = frames(3, 4, other=(3, 4))
    pairs = [torch.stack([each, each.flip(1)]) for each in (fa, fb)]
    logits = [torch.randn(2, CLASSES, 3, 4, dtype=torch.float64, requires_grad=True) for _ in "ab"]

    def loss(*logits: Tensor) -> Tensor:
        return perceptual_consistency_loss(*pairs, *logits, max_bytes=700)

    assert torch.autograd.gradcheck(loss, logits)


def test_the_loss_is_of_32_bits_under_autocast() -> None:
    fa, fb = torch.randn(2, 1, 6, 5, 7)
    logits = torch.randn(2, 1, CLASSES, 5, 7).bfloat16()
    expected = perceptual_consistency_loss(fa, fb, *logits.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = perceptual_consistency_loss(fa, fb, *logits)
    torch.testing.assert_close(found, expected)


def test_a_step_along_the_loss_makes_labels_more_consistent() -> None:
    fa, fb, *_ = frames(other=(5, 7))
    logits = torch.randn(2, 1, CLASSES, 10, 14, dtype=torch.float64, requires_grad=True)
    before = perceptual_consistency_loss(fa[None], fb[None], *logits)
    (gradient,) = torch.autograd.grad(before, logits)
    after = perceptual_consistency_loss(fa[None], fb[None], *(logits - gradient).detach())
    assert after < before
    with pytest.raises(ValueError, match="as many pairs"):
        perceptual_consistency_loss(fa[None], fb[None], logits[0].expand(2, -1, -1, -1), logits[1])
