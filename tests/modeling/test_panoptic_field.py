"""Panoptic fields against Detectron2's Panoptic FPN, and windows of them against the whole."""

import copy
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import PanopticFPN, build_model
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Instances
from torch import Tensor

from ifa_d2 import add_ifa_config
from ifa_d2.engine import Predictor
from ifa_d2.layers import ImplicitAlignment
from ifa_d2.modeling import (
    FieldPanopticFPN,
    IFAPanopticDeepLabHead,
    Merging,
    PanopticField,
    compute_fields,
    compute_panoptic_fields,
)
from ifa_d2.modeling.head_config import head_config
from tests.modeling.panoptic import detections, small_model

SIZE = (32, 48)


def make_field(*boxes: tuple[float, ...], size: tuple[int, int] = SIZE, **merging: float) -> Any:
    torch.manual_seed(1)
    alignment = ImplicitAlignment(in_channels=(4,), num_classes=5, hidden_dims=(8,)).eval()
    torch.nn.init.normal_(alignment.predictor.weight)
    return PanopticField(
        detections=detections(SIZE, *boxes),
        merging=Merging(**{"stuff_area": 20, **merging}),
        alignment=alignment,
        levels=[3 * torch.randn(1, 4, 8, 12)],
        image_size=size,
    )


def categories(merged: Tensor, segments: list[dict]) -> Tensor:
    """(H, W) category of each pixel, things from 100 on, -1 for none."""
    table = torch.full((max([0, *(s["id"] for s in segments)]) + 1,), -1)
    for segment in segments:
        table[segment["id"]] = segment["category_id"] + 100 * segment["isthing"]
    return table[merged.long()]


@pytest.fixture(scope="module")
def model() -> PanopticFPN:
    return small_model()


@pytest.fixture(scope="module")
def picture() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(256, (3, 80, 120), dtype=torch.uint8, generator=generator)
    return {"image": image, "height": 60, "width": 90}  # shown larger than it is, and padded


def test_whole_picture_is_detectron2s(model: PanopticFPN, picture: dict[str, Any]) -> None:
    with torch.no_grad():
        theirs = model([picture])[0]
    field = compute_panoptic_fields(model, [picture])[0]
    ours = field.instances()
    assert len(ours) == len(theirs["instances"]) > 20
    for name in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(ours.get(name), theirs["instances"].get(name)), name
    assert torch.equal(ours.pred_boxes.tensor, theirs["instances"].pred_boxes.tensor)
    assert torch.equal(ours.indices, torch.arange(len(ours)))
    expected = combine_semantic_and_instance_outputs(
        theirs["instances"], field.labels().long(), 0.5, 40, 0.15
    )
    merged, segments = field.panoptic()
    assert torch.equal(merged, expected[0]) and segments == expected[1]
    assert {segment["isthing"] for segment in segments} == {True, False}
    semantic = compute_fields(model, [picture])[0]
    assert torch.equal(field.logits((20, 30)), semantic.logits((20, 30)))


def test_fields_of_refined_features(model: PanopticFPN, picture: dict[str, Any]) -> None:
    """A model that gives its head other features than the backbone's says so."""
    expected = compute_fields(model, [picture])[0].logits()
    refining = copy.copy(model)
    refining.head_features = lambda images: {
        name: 2 * feature for name, feature in model.backbone(images).items()
    }
    logits = compute_fields(refining, [picture])[0].logits()
    assert (logits - expected).abs().max() > 0.01
    refining.head_features = model.backbone.forward
    assert torch.equal(compute_fields(refining, [picture])[0].logits(), expected)
    with pytest.raises(ValueError, match=r"model must be a PanopticFPN, .* got Identity: compute_"):
        compute_panoptic_fields(torch.nn.Identity().eval(), [picture])


def test_meta_architecture_and_predictor(model: PanopticFPN, picture: dict[str, Any]) -> None:
    field = compute_panoptic_fields(model, [picture])[0]
    ours = small_model(_target_=FieldPanopticFPN)
    ours.load_state_dict(model.state_dict())
    assert not ours.return_logits
    for return_logits in (False, True):
        ours.return_logits = return_logits
        with torch.no_grad():
            answer = ours([picture])[0]
            raw = ours.inference([picture], do_postprocess=False)
        expected = field.logits() if return_logits else field.labels()
        assert torch.equal(answer["sem_seg"], expected)
        assert torch.equal(answer["panoptic_seg"][0], field.panoptic()[0])
        assert torch.equal(answer["instances"].pred_masks, field.instances().pred_masks)
        assert len(raw[0][0]) == 100 and raw[1].shape == (1, 12, 96, 128)
    predictor = Predictor(model, image_format="BGR")
    image = picture["image"].permute(1, 2, 0).numpy()
    assert predictor.is_panoptic
    found = predictor(image)
    assert isinstance(found, PanopticField) and found.image_size == (80, 120)
    assert torch.equal(found.panoptic()[0], predictor(picture["image"]).panoptic()[0])


def test_windows_show_the_whole_pictures_segments(
    model: PanopticFPN, picture: dict[str, Any]
) -> None:
    field = compute_panoptic_fields(model, [picture])[0]
    whole, segments = field.panoptic()
    y0, x0, y1, x1 = window = (7, 20, 45, 81)
    part, shown = field.panoptic(window=window)
    assert part.dtype == torch.int32
    crop = whole[y0:y1, x0:x1]
    assert (part == crop).float().mean() > 0.999  # masks' coordinates round otherwise
    present = set(part.unique().tolist())
    assert shown == [segment for segment in segments if segment["id"] in present]
    masks = field.instances(window=window)
    expected = field.instances().pred_masks[masks.indices][:, y0:y1, x0:x1]
    assert (masks.pred_masks == expected).float().mean() > 0.999
    assert len(masks) < len(field.instances())
    again, _ = field.panoptic(size=(60, 90))
    assert torch.equal(again, whole)


def test_sizes_scale_boxes_and_masks() -> None:
    """A full mask in a box is a rectangle, whose sides follow window and size."""
    field = make_field((8, 4, 24, 20, 0.9, 3))
    mask = field.instances().pred_masks[0]
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[4:20, 8:24] = True
    assert torch.equal(mask, expected)
    found = field.instances(size=(64, 32), window=(12, 16, 28, 32))
    expected = torch.zeros(64, 32, dtype=torch.bool)
    expected[:32, :16] = True
    assert torch.equal(found.pred_masks[0], expected)
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 16, 32]]  # cut at the border
    assert found.image_size == (64, 32)
    merged, segments = field.panoptic((64, 32), (12, 16, 28, 32))
    assert (merged[:32, :16] == 1).all() and (merged[32:] != 1).all()
    assert segments[0] == {
        "id": 1,
        "isthing": True,
        "score": pytest.approx(0.9),
        "category_id": 3,
        "instance_id": 0,
    }
    assert len(field.instances(window=(20, 24, 32, 48))) == 0  # it only touches


def test_boxes_are_of_the_resized_picture() -> None:
    field = make_field((8, 4, 24, 20, 0.9, 3), size=(16, 96))
    assert field.detections.pred_boxes.tensor.tolist() == [[16, 2, 48, 10]]
    assert field.instances().pred_masks[0].nonzero().amin(0).tolist() == [2, 16]


def test_decisions_do_not_depend_on_the_window() -> None:
    """What is too small, too weak or hidden in the picture is so in any window, at any size."""
    boxes = [
        (4, 4, 20, 20, 0.9, 0),
        (5, 5, 19, 19, 0.8, 1),  # hidden
        (30, 4, 40, 14, 0.3, 2),  # weak
        (18, 10, 30, 20, 0.6, 3),  # in part hidden
    ]
    field = make_field(*boxes, stuff_area=200)
    _, segments = field.panoptic()
    things = [(s["category_id"], s["instance_id"]) for s in segments if s["isthing"]]
    assert things == [(0, 0), (3, 3)]
    areas = field.labels()[field.panoptic()[0] != 1].unique(return_counts=True)
    assert any(0 < count < 200 for count in areas[1])
    for size, window in (
        ((96, 144), None),
        ((16, 16), (4, 4, 20, 20)),
        ((99, 40), (8, 20, 31, 47)),
    ):
        merged, shown = field.panoptic(size, window)
        assert merged.shape == size
        assert all(one in segments for one in shown)
        assert set(merged.unique().tolist()) - {0} == {one["id"] for one in shown}
        labels = field.labels(size, window).long()
        stuff = {s["category_id"] for s in segments if not s["isthing"]}
        left = categories(merged, shown)
        expected = torch.tensor([label if label in stuff else -1 for label in range(5)])[labels]
        assert torch.equal(left[left < 100], expected[left < 100])
    inner, _ = field.panoptic((16, 16), (4, 4, 20, 20))
    assert (inner == 1).all()


def test_things_class_is_no_stuff() -> None:
    field = make_field(stuff_area=0)
    merged, segments = field.panoptic()
    labels = field.labels()
    assert (labels == 0).any()
    assert torch.equal(merged == 0, labels == 0)
    assert [s["category_id"] for s in segments] == [k for k in range(1, 5) if (labels == k).any()]
    assert len(field.instances()) == 0 and field.instances().pred_masks.shape == (0, *SIZE)


def test_answers_can_be_written_to() -> None:
    field = make_field((8, 4, 24, 20, 0.9, 3))
    merged, segments = field.panoptic()
    expected = merged.clone()
    merged.zero_(), segments[0].clear()
    assert torch.equal(field.panoptic()[0], expected)
    assert field.panoptic()[1][0]["category_id"] == 3


def test_mistakes() -> None:
    field = make_field((8, 4, 24, 20, 0.9, 3))
    with pytest.raises(ValueError, match="window must lie inside"):
        field.panoptic(window=(0, 0, 33, 10))
    with pytest.raises(ValueError, match="size must be"):
        field.instances(size=(0, 4))
    found = detections(SIZE, (8, 4, 24, 20, 0.9, 3))
    found.remove("pred_masks")
    with pytest.raises(ValueError, match="detections must have pred_masks"):
        PanopticField(
            detections=found,
            alignment=field.alignment,
            levels=field.levels,
            image_size=SIZE,
        )


def _deeplab_config() -> Any:
    from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config

    cfg = get_cfg()
    add_ifa_config(cfg)
    add_panoptic_deeplab_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "PanopticDeepLab"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_deeplab_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res5"]
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 128
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NAME, head.NORM, head.NUM_CLASSES = "IFAPanopticDeepLabHead", "BN", 19
    head.IN_FEATURES, head.CONVS_DIM = ["res2", "res3", "res5"], 16
    head.USE_DEPTHWISE_SEPARABLE_CONV = False
    cfg.MODEL.IFA.HIDDEN_DIMS = [16]
    cfg.MODEL.INS_EMBED_HEAD.NORM = "BN"
    cfg.MODEL.INS_EMBED_HEAD.ASPP_CHANNELS = 16
    cfg.DATASETS.TRAIN = ("cityscapes_fine_panoptic_train",)
    return cfg


def test_panoptic_deeplab_trains_and_answers() -> None:
    model = build_model(_deeplab_config())
    size = (64, 64)
    sample = {
        "image": torch.randint(256, (3, *size), dtype=torch.uint8),
        "height": size[0],
        "width": size[1],
        "sem_seg": torch.randint(19, size),
        "sem_seg_weights": torch.ones(size),
        "center": torch.zeros(size),
        "center_weights": torch.ones(size),
        "offset": torch.zeros(2, *size),
        "offset_weights": torch.ones(size),
    }
    losses = model([sample, sample])
    assert set(losses) == {"loss_sem_seg", "loss_center", "loss_offset"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.sem_seg_head.parameters())
    with torch.no_grad():
        answer = model.eval()([sample])[0]
    assert answer["sem_seg"].shape == (19, *size)
    assert answer["panoptic_seg"][0].shape == size


def test_panoptic_deeplab_weights_pixels() -> None:
    shapes = {"res2": ShapeSpec(channels=4, stride=4)}
    options = {"num_classes": 3, "channels": 4, "hidden_dims": (4,), "norm": ""}
    options |= {"input_shape": shapes, "in_features": ("res2",), "aux_feature": None}

    def build(loss_top_k: float = 1.0, **changes: object) -> IFAPanopticDeepLabHead:
        parts = head_config({**options, **changes})
        parts = {name: instantiate(parts[name]) for name in parts}
        return IFAPanopticDeepLabHead(loss_top_k=loss_top_k, **parts)

    head = build()
    features, targets = {"res2": torch.randn(1, 4, 4, 4)}, torch.randint(3, (1, 16, 16))
    plain = head(features, targets)[1]["loss_sem_seg"]
    double = head(features, targets, torch.full((1, 16, 16), 2.0))[1]["loss_sem_seg"]
    torch.testing.assert_close(double, 2 * plain)
    half = build(loss_top_k=0.5)
    half.load_state_dict(head.state_dict())
    logits = torch.nn.functional.interpolate(
        half.layers(features), scale_factor=4, mode="bilinear", align_corners=False
    )
    pixels = torch.nn.functional.cross_entropy(logits, targets, reduction="none").flatten()
    hardest = half(features, targets)[1]["loss_sem_seg"]
    torch.testing.assert_close(hardest, pixels.topk(128).values.mean())
    head.eval()
    assert head(features, None, None)[0].shape == (1, 3, 16, 16)
    for change, message in (
        ({"loss_top_k": 0.0}, "loss_top_k must be in"),
        ({"targets": "points"}, "targets must be GridTargets, got PointTargets"),
        ({"aux_feature": "res2"}, "aux_heads must be empty, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**change)
    with pytest.raises(ValueError, match="targets must be given"):
        head.train()(features)


def test_instances_without_masks_are_allowed_when_there_are_none() -> None:
    field = make_field()
    empty = Instances(SIZE)
    empty.pred_boxes = field.detections.pred_boxes
    empty.scores = torch.empty(0)
    empty.pred_classes = torch.empty(0, dtype=torch.long)
    bare = PanopticField(
        detections=empty,
        merging=field.merging,
        alignment=field.alignment,
        levels=field.levels,
        image_size=SIZE,
    )
    assert torch.equal(bare.panoptic()[0], field.panoptic()[0])
    assert torch.equal(bare.panoptic((8, 8))[0], field.panoptic((8, 8))[0])
