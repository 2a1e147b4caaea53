"""Sums of losses, losses of other libraries, and what a head makes of them."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from ifa_d2.modeling import (
    DiceLoss,
    FocalLoss,
    IFAPanopticDeepLabHead,
    LabelledPixels,
    LovaszSoftmaxLoss,
    OhemCrossEntropy,
    WeightedSum,
)
from ifa_d2.modeling.criterion import (
    check_criterion,
    check_labels,
    evaluate_criterion,
    ignored_label,
)
from ifa_d2.modeling.head_config import head_config
from tests.heads import make_head
from tests.modeling.test_head_targets import OFF_GRID, SHAPES, blobs, make_features
from tests.modeling.test_losses import some_batch


class SmpDice(nn.Module):
    """Called as segmentation_models_pytorch's losses: (N, C, H, W), (N, H, W), ignore_index."""

    def __init__(self, mode: str, ignore_index: int | None = None) -> None:
        super().__init__()
        assert mode == "multiclass"
        self.ignore_index = ignore_index

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        assert y_pred.dim() == 4 and y_true.dim() == 3 and y_pred.dtype != torch.bfloat16
        mask = (y_true != self.ignore_index)[:, None]
        p = y_pred.softmax(dim=1) * mask
        g = F.one_hot(y_true.where(mask[:, 0], 0), y_pred.shape[1]).movedim(-1, 1) * mask
        dims = (0, 2, 3)
        return (1 - 2 * (p * g).sum(dims) / (p + g).sum(dims)).mean()


class MonaiFocal(nn.Module):
    """Called as MONAI's losses: (B, N, H, W), (B, 1, H, W), and no label to ignore."""

    def __init__(self, to_onehot_y: bool = False, reduction: str = "mean") -> None:
        super().__init__()
        assert to_onehot_y
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        assert target.shape == (len(input), 1, *input.shape[2:])
        onehot = torch.zeros_like(input).scatter_(1, target, 1)
        p = input.sigmoid()
        loss = -onehot * (1 - p) ** 2 * p.log() - (1 - onehot) * p**2 * (1 - p).log()
        return loss.mean() if self.reduction == "mean" else loss


OTHERS = [
    nn.CrossEntropyLoss(ignore_index=255, label_smoothing=0.1),
    nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0]), ignore_index=255),
    SmpDice("multiclass", ignore_index=255),
    LabelledPixels(MonaiFocal(to_onehot_y=True), label_channel=True),
    FocalLoss(),
    LovaszSoftmaxLoss(),
    WeightedSum([OhemCrossEntropy(), DiceLoss(), nn.CrossEntropyLoss(ignore_index=255)], [1, 2, 3]),
]


def make(criterion: nn.Module, **kwargs: object) -> nn.Module:
    return make_head(
        input_shape=SHAPES,
        num_classes=5,
        channels=8,
        hidden_dims=(12, 8),
        aux_channels=6,
        criterion=criterion,
        **kwargs,
    )


@pytest.mark.parametrize("criterion", OTHERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("targets", [{}, *OFF_GRID[1:3]], ids=str)
def test_a_head_learns_by_any_criterion(criterion: nn.Module, targets: dict) -> None:
    head = make(criterion, **targets)
    labels = blobs()
    labels[:, :30, :50] = 255
    _, losses = head(make_features(), labels)
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    gradients = [p.grad for p in head.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    head.zero_grad()
    _, losses = head(make_features(), torch.full_like(labels, 255))
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert not any(p.grad.any() for p in head.parameters())


def test_a_sum_is_that_of_its_parts() -> None:
    logits, labels = some_batch()
    parts = [OhemCrossEntropy(min_kept=20), DiceLoss(), nn.CrossEntropyLoss(ignore_index=255)]
    expected = (
        0.5 * parts[0](logits, labels, share=0.1)
        + 2 * parts[1](logits, labels)
        + 3 * parts[2](logits, labels)
    )
    criterion = WeightedSum(parts, [0.5, 2, 3])
    assert torch.allclose(evaluate_criterion(criterion, logits, labels, share=0.1), expected)
    alone = WeightedSum([DiceLoss(ignore_value=9)])
    assert alone.ignore_value == 9
    assert torch.equal(alone(logits, labels % 255), DiceLoss()(logits, labels % 255))


def test_labelled_pixels_are_what_a_loss_sees() -> None:
    logits, labels = some_batch()
    keep = labels != 255
    expected = MonaiFocal(to_onehot_y=True)(
        logits.movedim(1, -1)[keep][:, :, None, None], labels[keep][:, None, None, None]
    )
    criterion = LabelledPixels(MonaiFocal(to_onehot_y=True), label_channel=True)
    assert torch.allclose(criterion(logits, labels), expected)
    points = criterion(logits.flatten(2), labels.flatten(1))
    assert torch.allclose(points, expected)
    plain = LabelledPixels(nn.CrossEntropyLoss())
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    assert torch.allclose(plain(logits, labels), expected)


def test_criteria_of_a_config_are_saved_and_loaded(tmp_path) -> None:
    node = L(WeightedSum)(
        criteria=[
            L(OhemCrossEntropy)(class_weights=[1.0, 2.0, 3.0, 4.0], label_smoothing=0.1),
            L(nn.CrossEntropyLoss)(
                ignore_index=255, weight=L("torch.as_tensor")(data=[1.0, 2.0, 3.0, 4.0])
            ),
            L(LovaszSoftmaxLoss)(),
        ],
        weights=[1.0, 0.5, 0.25],
    )
    cfg = OmegaConf.create({"criterion": node}, flags={"allow_objects": True})
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    logits, labels = some_batch()
    values = [
        instantiate(one.criterion)(logits.float(), labels)
        for one in (cfg, LazyConfig.load(str(tmp_path / "config.yaml")))
    ]
    assert torch.equal(*values) and values[0] > 0


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (SmpDice("multiclass"), r"criterion must have an ignore_value or ignore_index, got a SmpD"),
        (MonaiFocal(to_onehot_y=True), r"MonaiFocal without.*L\(LabelledPixels\)"),
        (OhemCrossEntropy(class_weights=[1.0] * 4), "class_weights of OhemCross.* must be 5, .* 4"),
        (
            WeightedSum([nn.CrossEntropyLoss(weight=torch.ones(6), ignore_index=255)]),
            "weight of CrossEntropyLoss must be 5, one for each class, got 6",
        ),
    ],
)
def test_a_head_refuses_what_would_learn_wrongly(criterion: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(criterion)


def test_a_head_ignores_what_its_criterion_ignores() -> None:
    assert make(nn.CrossEntropyLoss(ignore_index=7)).ignore_value == 7
    assert ignored_label(WeightedSum([DiceLoss(ignore_value=9)])) == 9


def test_bad_sums() -> None:
    with pytest.raises(ValueError, match=r"weights .* got \[1.0, 2.0\] for 1"):
        WeightedSum([DiceLoss()], [1.0, 2.0])
    with pytest.raises(ValueError, match="for 0"):
        WeightedSum([])
    with pytest.raises(ValueError, match=r"weights must be above 0, got \[1, 0\]"):
        WeightedSum([DiceLoss(), DiceLoss()], [1, 0])
    with pytest.raises(ValueError, match=r"one label to ignore, got \[-100, 255\]"):
        WeightedSum([DiceLoss(), nn.CrossEntropyLoss()])


def test_a_criterion_gives_one_number() -> None:
    logits, labels = some_batch()
    loss = nn.CrossEntropyLoss(ignore_index=255, reduction="none")
    with pytest.raises(ValueError, match=r"CrossEntropyLoss must give one number, got \(2, 5, 6\)"):
        evaluate_criterion(loss, logits, labels)


@pytest.mark.parametrize("value", [-1, 3, 254, 1000])
def test_label_out_of_range(value: int) -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    labels[0, 1, 1] = value
    with pytest.raises(ValueError, match=rf"3 classes.*ignore_value 255, got \[{value}\]"):
        check_labels(labels, 3, 255)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (FocalLoss(), "criterion must be OhemCrossEntropy, got FocalLoss"),
        (OhemCrossEntropy(class_weights=[1.0] * 5), "criterion must be without class_weights"),
        (OhemCrossEntropy(label_smoothing=0.1), r"label_smoothing, .* got None, 0\.1"),
    ],
)
def test_panoptic_deeplab_has_a_loss_of_its_own(criterion: nn.Module, words: str) -> None:
    parts = head_config({"input_shape": SHAPES, "num_classes": 5, "channels": 8})
    parts = {name: instantiate(parts[name]) for name in parts}
    IFAPanopticDeepLabHead(**parts)
    with pytest.raises(ValueError, match=words):
        IFAPanopticDeepLabHead(**parts | {"criterion": criterion})


def test_a_node_without_target_is_no_criterion() -> None:
    with pytest.raises(ValueError, match=r"criterion must be a module, got dict .*_target_"):
        check_criterion({"ignore_value": 9}, 3)
