"""The boundary head: targets, its three losses, and its place among a head's auxiliary ones."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from boundary_head import BoundaryHead, balanced_boundary_loss
from detectron2.layers import ShapeSpec
from inverse_form import InverseFormLoss
from inverse_net import InverseNet, save_inverse_net
from torch import Tensor, nn

from ifa_d2.data.points import PointSampler
from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import (
    AuxiliaryHead,
    FeatureLevels,
    GridTargets,
    IFASemSegHead,
    LabelledPoints,
    OhemCrossEntropy,
    PointTargets,
)

SHAPES = {"res2": ShapeSpec(channels=4, stride=4), "res3": ShapeSpec(channels=8, stride=8)}
CLASSES = 5
LOSSES = {"loss_boundary", "loss_boundary_attention", "loss_inverse_form"}


def boundary_head(**options) -> BoundaryHead:
    return BoundaryHead(
        **{"features": ["res2", "res3"], "in_channels": [4, 8], "channels": 6} | options
    )


def head(*aux_heads: nn.Module, **options) -> IFASemSegHead:
    options = {"criterion": OhemCrossEntropy(threshold=1.0)} | options
    return IFASemSegHead(
        num_classes=CLASSES,
        levels=FeatureLevels(input_shape=SHAPES, channels=4),
        alignment=ImplicitAlignment(in_channels=[4, 4], num_classes=CLASSES, hidden_dims=[6]),
        aux_heads=aux_heads,
        **options,
    )


def features(batch: int = 2) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch, one.channels, 40 // one.stride, 56 // one.stride)
        for name, one in SHAPES.items()
    }


def labels() -> Tensor:
    """Two pictures of a square in the middle, with unlabelled rows."""
    made = torch.zeros(2, 40, 56, dtype=torch.int64)
    made[:, 12:30, 20:44] = torch.tensor([1, 3])[:, None, None]
    made[:, :3] = 255
    return made


@pytest.fixture
def inverse_form(tmp_path: Path) -> InverseFormLoss:
    net = InverseNet(tile_size=16, num_cells=4, hidden_dims=(16,))
    nn.init.normal_(net.layers[-1].weight)
    save_inverse_net(net, tmp_path / "net.pth", {})
    return InverseFormLoss(net_file=tmp_path / "net.pth")


def test_balanced_loss_weighs_both_sides_alike() -> None:
    logits = torch.randn(2, 9, 11)
    target, labelled = torch.rand(2, 2, 9, 11) > 0.6
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    on, off = losses[labelled & target], losses[labelled & ~target]
    number = len(on) + len(off)
    expected = (len(off) / number * on.sum() + len(on) / number * off.sum()) / number
    torch.testing.assert_close(balanced_boundary_loss(logits, target, labelled), expected)
    # Of logits of 0, what both sides cost is the same.
    share = len(on) / number
    zero = balanced_boundary_loss(0 * logits, target, labelled)
    assert zero.item() == pytest.approx(2 * share * (1 - share) * 0.6931472, rel=1e-5)


@pytest.mark.parametrize("value", [True, False])
def test_balanced_loss_of_one_side_is_nothing(value: bool) -> None:
    logits = torch.randn(1, 4, 5, requires_grad=True)
    target = torch.full((1, 4, 5), value)
    for labelled in (target | True, target & False):
        loss = balanced_boundary_loss(logits, target, labelled)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0 and (gradient == 0).all()


def test_logits_are_of_all_features_on_the_finest_grid() -> None:
    aux = boundary_head().eval()
    seen = features()
    logits = aux.logits(seen)
    assert logits.shape == (2, 1, 10, 14)
    for name in SHAPES:
        assert not torch.equal(aux.logits({**seen, name: 0 * seen[name]}), logits)
    one = boundary_head(features=["res3"], in_channels=[8]).eval()
    assert one.logits(seen).shape == (2, 1, 5, 7)
    assert sum(p.numel() for p in aux.parameters()) == 12 * 6 + 2 * 6 + 6 + 1


@pytest.mark.parametrize(
    "targets",
    [GridTargets(), PointTargets(PointSampler(num_points=64))],
    ids=["grid", "points"],
)
def test_losses_and_gradients(targets, inverse_form: InverseFormLoss) -> None:
    aux = boundary_head(inverse_form=inverse_form, attention_threshold=0.3)
    model = head(
        AuxiliaryHead(feature="res3", in_channels=8, channels=6, num_classes=CLASSES),
        aux,
        targets=targets,
    )
    losses = model(features(), labels())[1]
    assert losses.keys() == LOSSES | {"loss_sem_seg", "loss_sem_seg_aux"}
    assert all(loss > 0 for loss in losses.values())
    for name in ("loss_boundary", "loss_inverse_form"):
        (gradient,) = torch.autograd.grad(losses[name], aux.predictor.weight, retain_graph=True)
        assert gradient.norm() > 0, name
    # Attention chooses pixels by the head, and teaches the field alone.
    field = model.alignment.predictor.weight
    attention = losses["loss_boundary_attention"]
    assert torch.autograd.grad(attention, field, retain_graph=True)[0].norm() > 0
    assert torch.autograd.grad(attention, aux.predictor.weight, allow_unused=True) == (None,)


def test_each_loss_can_be_left_out(inverse_form: InverseFormLoss) -> None:
    names = [
        head(boundary_head(attention_weight=attention, inverse_form=form))(features(), labels())[1]
        for attention, form in ((0.0, None), (0.1, None), (0.0, inverse_form))
    ]
    left_out = [LOSSES - losses.keys() for losses in names]
    assert left_out == [
        {"loss_boundary_attention", "loss_inverse_form"},
        {"loss_inverse_form"},
        {"loss_boundary_attention"},
    ]


def told(value: float) -> BoundaryHead:
    """A head that says a logit everywhere."""
    aux = boundary_head()
    nn.init.zeros_(aux.predictor.weight)
    nn.init.constant_(aux.predictor.bias, value)
    return aux


@pytest.mark.parametrize("targets", [GridTargets(), PointTargets(PointSampler(num_points=64))])
def test_attention_is_the_criterion_of_pixels_above_the_threshold(targets) -> None:
    losses = head(told(2.0), targets=targets)(features(), labels())[1]
    torch.testing.assert_close(losses["loss_boundary_attention"], 0.1 * losses["loss_sem_seg"])
    losses = head(told(1.0), targets=targets)(features(), labels())[1]  # 0.73
    assert losses["loss_boundary_attention"] == 0


def test_attention_sees_a_part_of_the_picture() -> None:
    aux, seen, given = boundary_head(features=["res2"], in_channels=[4]), features(), labels()
    aux.logits = lambda features: torch.where(torch.arange(14) < 7, 9.0, -9.0).expand(2, 1, 10, 14)
    model = head(aux)
    losses = model(seen, given)[1]
    given[:, :, 27:] = 255  # 0.8 lies between the middles of the cells, 26 and 30
    left = head(told(2.0))
    state = {n: t for n, t in model.state_dict().items() if not n.startswith("aux_heads")}
    left.load_state_dict(state, strict=False)
    expected = left(seen, given)[1]["loss_boundary_attention"]
    torch.testing.assert_close(losses["loss_boundary_attention"], expected)


def test_boundary_loss_is_of_the_labels_own_size() -> None:
    losses = head(told(0.0))(features(), labels())[1]
    given = labels()
    near = torch.zeros_like(given, dtype=torch.bool)
    near[:, 10:32, 18:46] = True  # two pixels on either side, by rows and columns
    near[:, 14:28, 22:42] = False
    share = near[:, 3:].float().mean().item()
    expected = 0.3 * 2 * share * (1 - share) * 0.6931472
    assert losses["loss_boundary"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [2, 255])
def test_labels_without_a_boundary(value: int, inverse_form: InverseFormLoss) -> None:
    model = head(boundary_head(inverse_form=inverse_form))
    losses = model(features(), torch.full((2, 40, 56), value))[1]
    assert losses["loss_boundary"] == losses["loss_inverse_form"] == 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_unlabelled_pixels_teach_nothing(inverse_form: InverseFormLoss) -> None:
    aux, given = boundary_head(inverse_form=inverse_form).eval(), labels()
    given[1] = 255
    step = {}
    aux_losses = aux.losses
    aux.losses = lambda one: step.setdefault("losses", aux_losses(one))
    seen = {name: one.requires_grad_() for name, one in features().items()}
    head(aux)(seen, given)
    for name in ("loss_boundary", "loss_inverse_form"):
        (gradient,) = torch.autograd.grad(step["losses"][name], seen["res3"], retain_graph=True)
        assert gradient[0].norm() > 0 and (gradient[1] == 0).all(), name


def test_half_precision_is_left_for_the_losses(inverse_form: InverseFormLoss) -> None:
    model = head(boundary_head(inverse_form=inverse_form))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(features(), labels())[1]
    assert {name: losses[name].dtype for name in LOSSES} == dict.fromkeys(LOSSES, torch.float32)


def test_points_without_labels_are_refused() -> None:
    points = LabelledPoints(torch.rand(2, 20, 2), torch.zeros(2, 20, dtype=torch.int64), 20)
    with pytest.raises(ValueError, match=r"targets must be dense labels .*num_points=0"):
        head(boundary_head(), targets=PointTargets())(features(), points)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": []}, "must be one for each of features"),
        ({"in_channels": [4]}, r"one for each of features \['res2', 'res3'\], got \[4\]"),
        ({"boundary_width": 0}, "boundary_width must be at least 1, got 0"),
        ({"boundary_weight": 0.0}, "boundary_weight must be above 0"),
        ({"attention_weight": -1.0}, "attention_weight must be 0 or above, got -1"),
        ({"attention_threshold": 1.0}, r"attention_threshold must be in \[0, 1\), got 1"),
    ],
)
def test_bad_options(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        boundary_head(**options)


def test_features_that_are_not_there() -> None:
    for options in ({"in_channels": [4, 9]}, {"features": ["res2", "res6"]}):
        with pytest.raises(ValueError, match=r"of the boundary head must be of \{'res2': 4"):
            head(boundary_head(**options))


def test_evaluation_does_not_run_it() -> None:
    aux = boundary_head()
    aux.hidden.forward = aux.predictor.forward = None
    with_head, without, seen = head(aux).eval(), head().eval(), features()
    without.load_state_dict(with_head.state_dict(), strict=False)
    torch.testing.assert_close(with_head(seen)[0], without(seen)[0], rtol=0, atol=0)
