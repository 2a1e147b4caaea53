"""Relations begin as 0 and depend on which instances there are, not on how they are listed."""

import math
from typing import Any

import pytest
import torch
from panoptic_relations import PanopticRelations, _attend
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .tiny_pisr import tiny_relations


@pytest.fixture
def relations() -> PanopticRelations:
    """In double precision, with residuals that are not 0."""
    torch.manual_seed(0)
    made = tiny_relations().double().eval()
    for part in (made.to_semantic, made.to_instance):
        torch.nn.init.normal_(part.weight)
    return made


def pictures(
    slots: int, size: tuple[int, int] = (10, 14), num_classes: int = 5
) -> tuple[Tensor, ...]:
    """Feature of half of the size, shares of classes, masks and scores."""
    torch.manual_seed(1)
    feature = torch.randn(2, 12, size[0] // 2, size[1] // 2).double()
    shares = torch.randn(2, num_classes, *size).double().softmax(dim=1)
    masks = torch.rand(2, slots, *size).double()
    return feature, shares, masks, torch.rand(2, slots).double() + 0.1


def test_residuals_begin_as_zero() -> None:
    made = tiny_relations().double()
    semantic, instance = made(*pictures(4))
    assert semantic.shape == (2, 8, 5, 7) and instance.shape == (2, 6, 5, 7)
    assert not semantic.any() and not instance.any()


def test_order_of_instances_is_nothing(relations: PanopticRelations) -> None:
    feature, shares, masks, scores = pictures(6)
    expected = relations(feature, shares, masks, scores)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for found, one in zip(
        relations(feature, shares, masks[:, order], scores[:, order]), expected, strict=True
    ):
        torch.testing.assert_close(found, one, rtol=0, atol=1e-12)
    # But which mask has which score is.
    other = relations(feature, shares, masks, scores[:, order])
    assert (other[0] - expected[0]).abs().max() > 1e-6


@pytest.mark.parametrize("filled", [0, 1, 3])
def test_empty_slots_are_nothing(relations: PanopticRelations, filled: int) -> None:
    feature, shares, masks, scores = pictures(8)
    expected = relations(feature, shares, masks[:, :filled], scores[:, :filled])
    for name in ("no score", "no cells"):
        padded, values = masks.clone(), scores.clone()
        (values if name == "no score" else padded)[:, filled:] = 0
        for found, one in zip(relations(feature, shares, padded, values), expected, strict=True):
            torch.testing.assert_close(found, one, rtol=0, atol=1e-12)
    less = relations(feature, shares, masks[:, : filled + 1], scores[:, : filled + 1])
    assert (less[0] - expected[0]).abs().max() > 1e-6


def test_a_score_that_falls_to_zero_leads_to_none(relations: PanopticRelations) -> None:
    feature, shares, masks, scores = pictures(3)
    expected = relations(feature, shares, masks[:, :2], scores[:, :2])[0]
    gaps = []
    for score in (1e-1, 1e-3, 1e-5):
        scores[:, 2] = score
        gaps.append((relations(feature, shares, masks, scores)[0] - expected).abs().max())
    assert gaps[0] > 30 * gaps[1] > 900 * gaps[2] > 0


def test_attention_shares_out_one() -> None:
    torch.manual_seed(2)
    query, key = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    bias = torch.tensor([[0.0, -1.0, -math.inf]])
    made = _attend(query, key, torch.ones(2, 3, 1), bias)
    torch.testing.assert_close(made, torch.ones(2, 5, 1))
    # Twice the weight is two of the same.
    twice = _attend(query, key, key, torch.tensor([[math.log(2.0), 0.0, 0.0]]))
    doubled = torch.cat([key[:, :1], key], dim=1)
    torch.testing.assert_close(twice, _attend(query, doubled, doubled, torch.zeros(1, 4)))


def test_gradients(relations: PanopticRelations) -> None:
    """Of shares, masks and scores, with an empty slot among them."""
    feature, shares, masks, scores = pictures(3, (4, 6), 2)
    scores[:, 1] = 0
    is_found = scores > 0

    def answer(feature: Tensor, shares: Tensor, masks: Tensor, scores: Tensor) -> Tensor:
        return relations(feature, shares, masks, scores * is_found)[0].sum(dim=(1, 2, 3))

    parts = [part.requires_grad_() for part in (feature, shares, masks, scores)]
    assert torch.autograd.gradcheck(answer, parts, fast_mode=True)
    answer(*parts).sum().backward()
    assert not scores.grad[:, 1].any() and scores.grad[:, 0].all() and shares.grad.any()


def test_all_parameters_learn_from_the_second_step_on() -> None:
    torch.manual_seed(3)
    made = tiny_relations().double()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    targets = [torch.randn(2, width, 5, 7).double() for width in (8, 6)]
    reached = []
    for _ in range(2):
        optimizer.zero_grad()
        outputs = made(*pictures(4))
        sum((a * b).sum() for a, b in zip(outputs, targets, strict=True)).backward()
        reached.append({name for name, p in made.named_parameters() if p.grad.any()})
        optimizer.step()
    names = [name for name, _ in made.named_parameters()]
    assert reached[0] == {name for name in names if name.startswith("to_")}
    assert reached[1] == set(names)


class _Largest(TorchDispatchMode):
    """Numbers in the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self.numel = max(self.numel, one.numel())
        return made


@pytest.mark.parametrize("slots", [3, 60])
def test_memory_is_bounded(relations: PanopticRelations, slots: int) -> None:
    """By encodings times cells, of the maps that are given or of the channels, and by pairs."""
    size = (40, 48)
    parts = pictures(slots, size)
    with torch.no_grad(), _Largest() as largest:
        relations(*parts)
    encodings, cells = 5 + slots, size[0] * size[1]
    pairs = 2 * encodings**2 * 2  # pictures, heads
    assert largest.numel <= max(2 * encodings * cells, 2 * 16 * cells // 4, pairs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_heads": 3}, "num_heads must divide channels 16, got 3"),
        ({"max_instances": 0}, "max_instances must be 1 or more, got 0"),
        ({"center_threshold": 0.0}, r"center_threshold must be in \(0, 1\), got 0.0"),
        ({"nms_kernel": 4}, "nms_kernel must be odd and above 0, got 4"),
    ],
)
def test_mistakes(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_relations(**change)
