"""The base is Detectron2's Panoptic-DeepLab, and PISR begins as its base."""

import copy
from typing import Any

import pytest
import torch
from detectron2.data import MetadataCatalog
from panoptic_deeplab import PanopticDeepLab, build_instance_head
from pisr_deeplab import TARGETS, PISRPanopticDeepLab, Prediction
from torch import Tensor, nn

from ifa_d2.engine.export_core import ExportCore
from ifa_d2.layers import GridQuery
from ifa_d2.modeling import compute_fields, compute_panoptic_fields
from ifa_d2.modeling.picture_fields import padded_images

from .tiny_pisr import SHAPES, THINGS, inputs, related, tiny_model, tiny_relations

SIZES = [(64, 96), (61, 83)]


def detectron2s(model: PISRPanopticDeepLab, name: str) -> PanopticDeepLab:
    """Detectron2's own around the modules of a base; it can be built of a yacs config alone."""
    MetadataCatalog.get(name).set(
        thing_dataset_id_to_contiguous_id={one: one for one in THINGS},
        label_divisor=model.label_divisor,
    )
    made = PanopticDeepLab.__new__(PanopticDeepLab)
    nn.Module.__init__(made)
    for part in ("backbone", "sem_seg_head", "ins_embed_head", "pixel_mean", "pixel_std"):
        setattr(made, part, getattr(model, part))
    for part in ("stuff_area", "nms_kernel", "top_k"):
        setattr(made, part, getattr(model, part))
    made.meta, made.threshold = MetadataCatalog.get(name), model.center_threshold
    made.predict_instances = made.benchmark_network_speed = False
    made.size_divisibility = 8
    return made.train(model.training)


def losses_of(model: nn.Module, batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Those of a copy, whose statistics move, at the same random numbers."""
    torch.manual_seed(7)
    return copy.deepcopy(model).train()(batch)


def assert_equal(found: list[dict], expected: list[dict]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one["sem_seg"], other["sem_seg"])
        assert torch.equal(one["panoptic_seg"][0], other["panoptic_seg"][0])
        assert one["panoptic_seg"][1] is other["panoptic_seg"][1] is None


@pytest.fixture
def name() -> Any:
    yield "tiny_pisr"
    MetadataCatalog.pop("tiny_pisr", None)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_the_base_is_detectron2s(size: tuple[int, int], name: str) -> None:
    base = tiny_model()
    theirs = detectron2s(base, name)
    assert base.state_dict().keys() == theirs.state_dict().keys()
    answers = base(inputs(*size))
    assert_equal(answers, theirs(inputs(*size)))
    for one in answers:  # things of both classes, stuff and void: what is compared is there
        ids = one["panoptic_seg"][0]
        assert one["sem_seg"].shape == (5, *size) and ids.shape == size
        assert len(ids.unique()) > 5 and (ids > 2000).any()
    batch = inputs(*size, targets=True)
    found, expected = losses_of(base, batch), losses_of(theirs, batch)
    assert found.keys() == expected.keys() == {"loss_sem_seg", "loss_center", "loss_offset"}
    assert all(torch.equal(found[key], expected[key]) and found[key] > 0 for key in found)


@pytest.mark.parametrize("size", SIZES)
def test_it_begins_as_its_base(size: tuple[int, int]) -> None:
    base = tiny_model()
    model = tiny_model(tiny_relations())
    nn.init.normal_(model.backbone.stem.conv1.weight)  # to be loaded
    missing = model.load_state_dict(base.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing.missing_keys} == {"relations"}
    assert not missing.unexpected_keys
    with torch.no_grad():
        assert_equal(model(inputs(*size)), base(inputs(*size)))
    batch = inputs(*size, targets=True)
    found, expected = losses_of(model, batch), losses_of(base, batch)
    for key, value in expected.items():
        assert torch.equal(found.pop(key), value)
        torch.testing.assert_close(found.pop(f"{key}_initial"), 0.4 * value)
    assert not found
    alone = losses_of(tiny_model(tiny_relations(), initial_loss_weight=0.0), batch)
    assert alone.keys() == expected.keys()


@torch.no_grad()
def test_it_moves_away_from_its_base_in_both_heads() -> None:
    base = tiny_model()
    model = related(tiny_model(tiny_relations()))
    images = torch.randn(2, 3, 64, 96)
    first, logits = model._begin(model.backbone(images))
    last = model._relate(first, logits)
    assert torch.equal(first.centers, base._begin(base.backbone(images))[0].centers)
    for name in ("centers", "offsets"):
        assert not torch.allclose(getattr(first, name), getattr(last, name), atol=1e-3)
    assert not torch.allclose(first.features["res2"], last.features["res2"], atol=1e-3)
    assert torch.equal(first.features["res3"], last.features["res3"])


@torch.no_grad()
def test_more_slots_than_instances_change_nothing() -> None:
    """And fewer do: the most confident ones are taken."""
    model = related(tiny_model(tiny_relations(max_instances=400)))
    images = torch.randn(2, 3, 64, 96)
    expected = model.head_features(images)["res2"]
    changed = {}
    for slots in (16 * 24, 200, 2):
        model.relations.max_instances = slots
        changed[slots] = (model.head_features(images)["res2"] - expected).abs().max()
    assert changed[384] == 0 and changed[200] < 1e-5 and changed[2] > 1e-4


def test_pictures_without_instances() -> None:
    """None is predicted, as none is likely, and none is labelled."""
    model = tiny_model(tiny_relations(), biased=False)
    with torch.no_grad():
        answers = model(inputs(64, 96))
        for one in answers:
            ids = one["panoptic_seg"][0]
            assert ((ids % 1000 == 0) | (ids == -1)).all() and torch.isfinite(one["sem_seg"]).all()
        related(model)
        assert all(torch.isfinite(one["sem_seg"]).all() for one in model(inputs(64, 96)))
    losses = model.train()(inputs(64, 96, targets=True, things=False))
    assert losses["loss_offset"] == losses["loss_offset_initial"] == 0
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(torch.isfinite(grad).all() for grad in gradients.values())
    # Classes are related all the same.
    assert gradients["relations.among.weight"].any()


def test_gradients_reach_the_attention_after_the_first_step() -> None:
    model = tiny_model(tiny_relations()).train()
    batch = inputs(64, 96, targets=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(2):
        optimizer.zero_grad()
        losses = model(batch)
        sum(losses.values()).backward()
        reached = {name for name, p in model.relations.named_parameters() if p.grad.any()}
        if not step:
            assert {name.split(".")[0] for name in reached} == {"to_semantic", "to_instance"}
        optimizer.step()
    # A convolution's bias in front of a norm that takes it away again is none of them.
    assert reached == {name for name, _ in model.relations.named_parameters()}


def test_bfloat16() -> None:
    model = related(tiny_model(tiny_relations())).train()
    batch = inputs(64, 96, targets=True)
    expected = losses_of(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_of(model, batch)
    sum(found.values()).backward()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value, rtol=0.1, atol=0.05)


def test_relations_reach_the_first_prediction_by_classes_and_centres() -> None:
    model = related(tiny_model(tiny_relations(), initial_loss_weight=0.0))
    first, logits = model._begin(model.backbone(torch.randn(1, 3, 64, 96)))
    first.centers.retain_grad(), logits.retain_grad()
    model._relate(first, logits).features["res2"].square().sum().backward()
    assert first.centers.grad.any() and logits.grad.any()


@torch.no_grad()
def test_fields_are_of_refined_features() -> None:
    model = related(tiny_model(tiny_relations()))
    batch = inputs(61, 83)
    grid = model.sem_seg_head.layers(model.head_features(padded_images(model, batch).tensor))
    assert grid.shape == (2, 5, 16, 22)
    for cells, field, plain in zip(
        grid, compute_fields(model, batch), compute_fields(tiny_model(), batch), strict=True
    ):
        made = field.alignment(field.levels, GridQuery.regular(16, 22))[0]
        torch.testing.assert_close(made, cells)
        logits = field.logits()
        assert logits.shape == (5, 61, 83) and not torch.allclose(logits, plain.logits())
        for size, window in (((7, 5), None), ((122, 40), (3, 4, 50, 33.5)), ((61, 83), None)):
            assert field.labels(size, window).shape == size
        window = field.logits((20, 30), (10, 20, 30, 50))
        torch.testing.assert_close(window, logits[:, 10:30, 20:50], rtol=1e-4, atol=1e-4)


def test_what_it_cannot_do_is_said() -> None:
    model = tiny_model(tiny_relations())
    with pytest.raises(ValueError, match=r"must be a PanopticFPN.* got PISRPanopticDeepLab"):
        compute_panoptic_fields(model, inputs(64, 96))
    with pytest.raises(ValueError, match=r"refines features .*PISRPanopticDeepLab.head_features"):
        ExportCore(model)
    with pytest.raises(ValueError, match=r"inputs must have .* but center, center_weights"):
        model.train()([{"sem_seg": torch.zeros(8, 8), "sem_seg_weights": 1, **inputs(8, 8)[0]}])
    assert len(TARGETS) == 6


@pytest.mark.parametrize("factor", [1, 2])
@torch.no_grad()
def test_a_resized_picture_has_the_same_instances(factor: int) -> None:
    """Offsets are in pixels of the answer; Detectron2's are of the input, and lead astray.

    All is one class of things, and each half belongs to the centre in the other one.
    """
    model = tiny_model()
    predictor = model.sem_seg_head.alignment.predictor
    predictor.weight.zero_(), predictor.bias.copy_(torch.eye(5)[THINGS[0]])
    y, x = torch.arange(16)[:, None], torch.arange(24)[None, :]
    places = ((8, 4), (8, 19))
    # Beside the cells' middles, as interpolation would give a middle several equal peaks.
    near = [-((y - v - 0.2) ** 2 + (x - u - 0.3) ** 2) for v, u in places]
    centers = sum(weight * (one / 4).exp() for weight, one in zip((1.0, 0.5), near, strict=True))
    other = torch.where(x < 12, places[1][1], places[0][1])
    offsets = torch.stack([(8 - y).expand(16, 24), (other - x).expand(16, 24)]).float()
    features = model.backbone(torch.zeros(1, 3, 64, 96))
    last = Prediction(features, torch.empty(0), centers[None, None], offsets[None])
    size = (64 * factor, 96 * factor)
    (answer,) = model._answers(last, [{"height": size[0], "width": size[1]}], [(64, 96)])
    ids, edge = answer["panoptic_seg"][0], 8 * factor
    assert ids.shape == size and set(ids.unique().tolist()) == {2001, 2002}
    left, right = ids[:, : size[1] // 2 - edge].unique(), ids[:, size[1] // 2 + edge :].unique()
    assert len(left) == len(right) == 1 and left != right


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"thing_classes": [5]}, r"thing_classes must be of the 5 classes, got \[5\]"),
        ({"initial_loss_weight": -1}, "initial_loss_weight must be 0 or above, got -1"),
        (
            {"relations": tiny_relations(feature="res4")},
            r"relations.feature must be one of \['res2', 'res3'\], got 'res4'",
        ),
        ({"relations": tiny_relations(in_channels=8)}, "relations.in_channels must be 12, got 8"),
        (
            {"relations": tiny_relations(semantic_channels=3)},
            "relations.semantic_channels must be 8, got 3",
        ),
        (
            {"relations": tiny_relations(instance_channels=3)},
            "relations.instance_channels must be 6, got 3",
        ),
        ({"ins_embed_head": nn.Identity()}, "ins_embed_head must be of PanopticDeepLabIns"),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    base = tiny_model()
    parts = {name: getattr(base, name) for name in ("backbone", "sem_seg_head", "ins_embed_head")}
    options = {"thing_classes": THINGS, "pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    PISRPanopticDeepLab(**parts, **options)
    with pytest.raises(ValueError, match=words):
        PISRPanopticDeepLab(**{**parts, **options, **changes})


def test_features_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"in_features must be of \['res2', 'res3'\], got \['res5"):
        build_instance_head(
            input_shape=SHAPES,
            in_features=["res2", "res5"],
            project_channels=[4],
            decoder_channels=[6, 8],
            aspp_dilations=[1, 2, 3],
        )
