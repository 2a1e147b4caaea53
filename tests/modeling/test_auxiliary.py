"""Auxiliary heads: several of them, groups of classes, what they say in evaluation."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import (
    AuxiliaryHead,
    AuxiliaryTask,
    FeatureLevels,
    FocalLoss,
    GridTargets,
    IFASemSegHead,
    OhemCrossEntropy,
    PointTargets,
    TrainingStep,
)
from ifa_d2.modeling.targets import LabelledPoints, interpolate

SHAPES = {
    "res2": ShapeSpec(channels=4, stride=4),
    "res3": ShapeSpec(channels=8, stride=8),
}
GROUPS = [1, 0, 1, 2, 0]
CLASSES = len(GROUPS)


def auxiliary(feature: str = "res3", **options) -> AuxiliaryHead:
    defaults = {"channels": 6, "num_classes": CLASSES, "dropout": 0.0}
    return AuxiliaryHead(
        feature=feature, in_channels=SHAPES[feature].channels, **defaults | options
    )


def head(*aux_heads: AuxiliaryHead, **options) -> IFASemSegHead:
    levels = FeatureLevels(input_shape=SHAPES, channels=4)
    alignment = ImplicitAlignment(in_channels=[4, 4], num_classes=CLASSES, hidden_dims=[6])
    return IFASemSegHead(
        num_classes=CLASSES, levels=levels, alignment=alignment, aux_heads=aux_heads, **options
    )


def features(batch: int = 2) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch, one.channels, 40 // one.stride, 56 // one.stride)
        for name, one in SHAPES.items()
    }


def labels(*size: int) -> Tensor:
    made = torch.randint(0, CLASSES + 1, size)
    return made.masked_fill(made == CLASSES, 255)


def points() -> LabelledPoints:
    return LabelledPoints(torch.rand(2, 50, 2), labels(2, 50), 50)


class MeanTask(AuxiliaryTask):
    """Mean of a feature's one map, and what it was given."""

    def __init__(self, feature: str = "res3") -> None:
        super().__init__()
        self.feature = feature
        self.predictor = nn.Conv2d(SHAPES[feature].channels, 1, 1)

    def check(self, feature_channels, num_classes, criterion) -> None:
        if self.feature not in feature_channels or num_classes != CLASSES:
            raise ValueError(f"no task of {self.feature} and {num_classes} classes")

    def logits(self, features):
        return self.predictor(features[self.feature])

    def losses(self, step: TrainingStep) -> dict[str, Tensor]:
        self.step = step
        mean = step.at_sample(self.logits(step.features)).mean()
        return {"loss_mean": mean, "loss_sem_seg_aux": mean}


@pytest.mark.parametrize("ignore_value", [255, -1])
def test_labels_become_those_of_groups_and_ignored_ones_stay(ignore_value: int) -> None:
    given = torch.tensor([[0, 1, 2], [3, 4, ignore_value]])
    grouped = auxiliary(class_groups=GROUPS).group_labels(given, ignore_value)
    assert grouped.tolist() == [[1, 0, 1], [2, 0, ignore_value]]
    assert auxiliary().group_labels(given, ignore_value) is given
    assert (auxiliary(class_groups=GROUPS).num_groups, auxiliary().num_groups) == (3, CLASSES)


def test_groups_go_where_the_head_goes_and_not_into_checkpoints() -> None:
    aux = auxiliary(class_groups=GROUPS)
    assert "class_groups" not in aux.state_dict()
    assert aux.to("meta").group_labels(labels(2, 7).to("meta"), 255).device.type == "meta"


@pytest.mark.parametrize("targets", [GridTargets(), PointTargets()])
def test_a_group_for_each_class_is_the_loss_of_classes_to_the_bit(targets) -> None:
    given = labels(2, 40, 56) if isinstance(targets, GridTargets) else points()
    found = []
    for groups in (None, range(CLASSES)):
        torch.manual_seed(3)
        model = head(auxiliary(class_groups=groups, dropout=0.5), targets=targets)
        losses = model(features(), given)[1]
        losses["loss_sem_seg_aux"].backward()
        gradient = model.aux_heads[0].conv.weight.grad
        found.append((losses["loss_sem_seg_aux"].detach(), gradient, losses["loss_sem_seg"]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_loss_of_groups_is_that_of_their_labels() -> None:
    aux = auxiliary(class_groups=GROUPS)
    nn.init.normal_(aux.predictor.weight)
    model = head(aux, criterion=OhemCrossEntropy(threshold=1.0), targets=PointTargets())
    seen, given = features(), points()
    loss = model(seen, given)[1]["loss_sem_seg_aux"]
    grouped = torch.tensor([*GROUPS, *[255] * 251])[given.labels]  # a table of all labels
    (logits,) = model.auxiliary_logits(seen)
    expected = nn.functional.cross_entropy(
        interpolate(logits, given.query), grouped, ignore_index=255
    )
    torch.testing.assert_close(loss, 0.4 * expected)


def test_losses_of_several_heads_are_summed_by_their_weights() -> None:
    parts = [auxiliary("res2", class_groups=GROUPS), auxiliary("res3"), auxiliary("res3")]
    seen, given = features(), labels(2, 40, 56)
    alone = [head(part)(seen, given)[1]["loss_sem_seg_aux"] for part in parts]
    for part, weight in zip(parts, (0.5, 2.0, 0.0), strict=True):
        part.loss_weight = weight
    together = head(*parts)(seen, given)[1]
    assert set(together) == {"loss_sem_seg", "loss_sem_seg_aux"}
    torch.testing.assert_close(together["loss_sem_seg_aux"], 0.5 * alone[0] + 2 * alone[1])


@pytest.mark.parametrize("targets", [GridTargets(), PointTargets()])
def test_other_tasks_have_losses_of_their_own(targets) -> None:
    given = labels(2, 40, 56) if isinstance(targets, GridTargets) else points()
    task, seen = MeanTask(), features()
    model = head(auxiliary(), task, targets=targets)
    alone = head(auxiliary(), targets=targets)
    alone.load_state_dict(model.state_dict(), strict=False)
    losses, others = model(seen, given)[1], alone(seen, given)[1]
    assert losses.keys() == {"loss_sem_seg", "loss_sem_seg_aux", "loss_mean"}
    expected = others["loss_sem_seg_aux"] + losses["loss_mean"]  # of one name
    torch.testing.assert_close(losses["loss_sem_seg_aux"], expected)
    torch.testing.assert_close(losses["loss_sem_seg"], others["loss_sem_seg"], rtol=0, atol=0)
    # What it was given is what the head's own loss is of.
    step = task.step
    assert step.targets is given and step.features is seen and step.ignore_value == 255
    loss = step.criterion(step.logits, step.sample)
    torch.testing.assert_close(loss, losses["loss_sem_seg"], rtol=0, atol=0)
    assert [tuple(one.shape) for one in model.auxiliary_logits(seen)][1] == (2, 1, 5, 7)


def test_tasks_check_the_head_that_they_are_in() -> None:
    task = MeanTask()
    task.feature = "res6"
    with pytest.raises(ValueError, match="no task of res6 and 5 classes"):
        head(task)


def test_labels_that_are_all_ignored_cost_nothing() -> None:
    model = head(auxiliary(class_groups=GROUPS))
    losses = model(features(), torch.full((2, 40, 56), 255))[1]
    assert losses["loss_sem_seg_aux"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_they_answer_in_evaluation_and_change_nothing_of_it() -> None:
    with_heads = head(auxiliary("res2", class_groups=GROUPS), auxiliary("res3")).eval()
    without = head().eval()
    without.load_state_dict(
        {n: t for n, t in with_heads.state_dict().items() if not n.startswith("aux_heads")}
    )
    seen = features()
    with torch.no_grad():
        shapes = [tuple(logits.shape) for logits in with_heads.auxiliary_logits(seen)]
        assert shapes == [(2, 3, 10, 14), (2, CLASSES, 5, 7)]
        torch.testing.assert_close(with_heads(seen)[0], without(seen)[0], rtol=0, atol=0)
    assert without.auxiliary_logits(seen) == []


def test_a_head_without_convolution_is_a_linear_classifier() -> None:
    aux = auxiliary(channels=None)
    assert {n: tuple(p.shape) for n, p in aux.named_parameters()} == {
        "predictor.weight": (CLASSES, 8, 1, 1),
        "predictor.bias": (CLASSES,),
    }
    nn.init.normal_(aux.predictor.weight)
    seen = features()["res3"]
    expected = torch.einsum("kc,bchw->bkhw", aux.predictor.weight[..., 0, 0], seen)
    torch.testing.assert_close(aux(seen), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_groups": [0, 1, 0]}, r"class_groups must be 5 numbers.*got \[0, 1, 0\]"),
        ({"class_groups": [0, 2, 0, 2, 0]}, "without a gap"),
        ({"class_groups": [0, 0, 0, 0, 0]}, "two groups"),
        ({"class_groups": [-1, 0, 1, 0, 1]}, "from 0 on"),
        ({"loss_weight": -0.5}, "loss_weight must be 0 or above, got -0.5"),
    ],
)
def test_bad_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        auxiliary(**options)


@pytest.mark.parametrize(
    ("aux", "options", "words"),
    [
        ({"num_classes": 4}, {}, "num_classes of the auxiliary head of res3 must be 5, got 4"),
        (
            {"class_groups": GROUPS},
            {"criterion": FocalLoss(class_weights=[1.0] * CLASSES)},
            "class_groups of the auxiliary head of res3 need a criterion that weights no classes: "
            "class_weights of FocalLoss must be 3",
        ),
        (
            {"class_groups": GROUPS},
            {"criterion": OhemCrossEntropy(ignore_value=1)},
            "ignore_value must be none of the 3 class_groups .* of res3, got 1",
        ),
    ],
)
def test_heads_that_do_not_fit(aux: dict, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        head(auxiliary(**aux), **options)
