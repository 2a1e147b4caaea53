"""What the head is trained on besides the grid, and the meta-architectures that pass it on."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.data import PointSampler, SemSegMapper
from ifa_d2.data.points import labels_at
from ifa_d2.layers import PointQuery
from ifa_d2.modeling import FieldSegmentor, IFASemSegHead
from ifa_d2.modeling.losses import OhemCrossEntropy
from ifa_d2.modeling.picture_fields import padded_images
from ifa_d2.modeling.targets import LabelledPoints
from tests.heads import make_head

SHAPES = {f"res{i + 2}": ShapeSpec(channels=4 * 2**i, stride=4 * 2**i) for i in range(4)}
POINTS = {"targets": "points", "num_points": 40}
JITTERED = {"targets": "jittered_grid"}
OFF_GRID = [
    {"targets": "jittered_grid"},
    {"targets": "jittered_grid", "target_spacings": (1.0, 0.5)},
    POINTS,
    {**POINTS, "point_sampling": "boundary"},
    {**POINTS, "point_sampling": "class_balanced"},
    {**POINTS, "targets": "uncertain_points"},
]


def make(**kwargs) -> IFASemSegHead:
    kwargs = {"channels": 8, "hidden_dims": (12, 8), "aux_channels": 6, **kwargs}
    return make_head(input_shape=SHAPES, num_classes=5, **kwargs)


def make_features(height=64, width=96, batch=2):
    return {
        name: torch.randn(batch, s.channels, height // s.stride, width // s.stride)
        for name, s in SHAPES.items()
    }


def blobs(batch=2, height=64, width=96) -> torch.Tensor:
    return (
        torch.randint(0, 5, (batch, height // 16, width // 16))
        .repeat_interleave(16, 1)
        .repeat_interleave(16, 2)
    )


@pytest.mark.parametrize("kwargs", OFF_GRID)
@pytest.mark.parametrize("norm", ["BN", "GN", "", "FrozenBN", "SyncBN"])
def test_all_targets_train(kwargs, norm):
    wide = {"channels": 32, "hidden_dims": (64,), "aux_channels": 32} if norm == "GN" else {}
    head = make(norm=norm, local_ensemble=True, **wide, **kwargs)
    logits, losses = head(make_features(), blobs())
    assert logits is None
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert all(module.training for module in head.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in head.modules())


@pytest.mark.parametrize("kwargs", [*OFF_GRID, {"targets": "uncertain_points", "num_points": 1}])
def test_all_ignored_trains(kwargs):
    head = make(**kwargs)
    _, losses = head(make_features(), torch.full((2, 64, 96), 255))
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("kwargs", OFF_GRID)
def test_labels_are_those_of_the_places_asked(kwargs, monkeypatch):
    """With logits that copy the label of the pixel asked, the loss vanishes."""
    head = make(aux_feature=None, ohem_threshold=1.0, norm="", **kwargs)
    targets = torch.randint(0, 5, (2, 64, 96))

    def decode(levels, query):
        if isinstance(query, PointQuery):
            points = query.coordinates
        else:
            axes = torch.meshgrid(query.rows.coordinates, query.cols.coordinates, indexing="ij")
            points = torch.stack(axes, -1).flatten(0, 1).expand(2, -1, -1)
        labels = labels_at(targets, points).unflatten(1, query.size)
        return 50.0 * nn.functional.one_hot(labels, 5).movedim(-1, 1).float()

    monkeypatch.setattr(head, "decode", decode)
    for _ in range(5):
        assert head(make_features(), targets)[1]["loss_sem_seg"] < 1e-6


def test_state_and_inference_do_not_depend_on_targets():
    heads = [make(**kwargs) for kwargs in [{}, *OFF_GRID]]
    state, features = heads[0].state_dict(), make_features()
    with torch.no_grad():
        expected = heads[0].eval()(features)[0]
        for head in heads[1:]:
            head.load_state_dict(state)
            assert torch.equal(head.eval()(features)[0], expected)


def test_labelled_points_take_the_place_of_dense_labels():
    head = make(**POINTS, ohem_threshold=1.0, norm="", aux_loss_weight=0.5)
    head.aux_heads[0].dropout.p = 0.0
    features, points = make_features(), torch.rand(2, 7, 2)
    labels = torch.randint(0, 5, (2, 7))
    labels[0, 2] = 255
    _, losses = head(features, LabelledPoints(points, labels, 7))
    cross_entropy = nn.functional.cross_entropy
    logits = head.decode(head.levels(features), PointQuery(points))
    assert losses["loss_sem_seg"].item() == pytest.approx(
        cross_entropy(logits, labels, ignore_index=255).item(), rel=1e-5
    )
    # The auxiliary logits, upsampled to many pixels, at the pixels of the points.
    dense = nn.functional.interpolate(
        head.aux_heads[0](features["res4"]), scale_factor=256, mode="bilinear"
    )
    y, x = (points * torch.tensor(dense.shape[-2:])).long().unbind(-1)
    aux = torch.stack([dense[b, :, y[b], x[b]] for b in range(2)])
    expected = 0.5 * cross_entropy(aux, labels, ignore_index=255).item()
    assert losses["loss_sem_seg_aux"].item() == pytest.approx(expected, abs=2e-3)


def test_points_do_not_fit_a_grid():
    points = LabelledPoints(torch.rand(2, 7, 2), torch.zeros(2, 7, dtype=torch.int64), 7)
    for targets, name in (("grid", "GridTargets"), ("jittered_grid", "JitteredGridTargets")):
        with pytest.raises(ValueError, match=f"dense labels for {name}, got points"):
            make(targets=targets)(make_features(), points)


def test_label_out_of_range_is_named_even_where_no_point_is():
    targets = blobs()
    targets[1, 3, 3] = 5
    with pytest.raises(ValueError, match=r"5 classes.*got \[5\]"):
        make(targets="points", num_points=2)(make_features(), targets)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"targets": "dots"}, "targets must be one of.*'dots'"),
        ({**JITTERED, "target_spacings": (1.0, 0.0)}, r"spacings must be .*\(1.0, 0.0\)"),
        ({**JITTERED, "target_spacings": (2.0,)}, r"spacings must be"),
        ({**JITTERED, "target_spacings": ()}, r"spacings must be"),
        ({**POINTS, "num_points": 0}, "num_points"),
        ({**POINTS, "point_sampling": "edges"}, "point_sampling.*'edges'"),
        ({**POINTS, "importance_ratio": 1.5}, "importance_ratio.*1.5"),
        ({"targets": "uncertain_points", "importance_ratio": 1.0}, "importance_ratio.*1.0"),
        (
            {"targets": "uncertain_points", "oversample_ratio": 0.5},
            "oversample_ratio must be at least 1, got 0.5",
        ),
        # Options that nothing would read.
        ({"num_points": 30}, r"\{'num_points': 30\} would be ignored.*'targets': 'grid'"),
        ({**POINTS, "target_spacings": (0.5,)}, r"\{'target_spacings': \[0.5\]\} would be"),
        ({"alignment": "bilinear", "encoding": "sine"}, "'encoding': 'sine'.* would be ignored"),
        ({"alignment": "nearest", "local_ensemble": True}, "'local_ensemble': True.* would be"),
        ({"pool_sizes": (1, 2)}, r"\{'pool_sizes': \[1, 2\]\} would be ignored"),
        (
            {"targets": "uncertain_points", "point_sampling": "boundary"},
            "'point_sampling': 'boundary'.* would be ignored.*'targets': 'uncertain_points'",
        ),
    ],
)
def test_bad_options(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)


def test_looking_for_uncertainty_leaves_no_trace():
    """BatchNorm's averages are those of one pass over the uniform points."""
    head = make(targets="uncertain_points", num_points=40)
    norms = [m for m in head.alignment.modules() if isinstance(m, nn.BatchNorm2d)]
    head(make_features(), blobs())
    assert [int(norm.num_batches_tracked) for norm in norms] == [1, 1]
    norms[0].eval()  # as a user may freeze one
    head(make_features(), blobs())
    assert (norms[0].training, norms[1].training) == (False, True)


def test_mixed_precision():
    head = make(**OFF_GRID[-1])
    with torch.autocast("cpu", torch.bfloat16):
        losses = head(make_features(), blobs())[1]
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


# -- hard pixels


def test_min_kept_is_a_share_of_what_is_asked():
    logits, labels = torch.randn(2, 3, 50), torch.randint(0, 3, (2, 50))
    logits = logits.scatter(1, labels[:, None], 9.0)  # all easy: min_kept alone decides
    hardest = nn.functional.cross_entropy(logits, labels, reduction="none").flatten()
    hardest = hardest.sort(descending=True).values
    criterion = OhemCrossEntropy(threshold=0.7, min_kept=400)
    for share, kept in ((0.1, 40), (0.2, 80), (1.0, 100)):
        loss = criterion(logits, labels, share=share)
        assert loss.item() == pytest.approx(hardest[:kept].mean().item(), rel=1e-5)


def test_head_scales_min_kept(monkeypatch):
    shares = []

    def criterion(logits, labels, share):
        shares.append(share)
        return logits.sum()

    for kwargs in ({}, {"targets": "jittered_grid"}, {**POINTS, "num_points": 96}):
        head = make(**kwargs)
        monkeypatch.setattr(head.criterion, "forward", criterion)
        head(make_features(), blobs())
    assert shares == [1, 1, 1 / 16, 1 / 16, 1 / 64, 1 / 64]


# -- through the meta-architectures


def make_cfg(meta: str, **ifa):
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = meta
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.update(
        DEPTH=18, RES2_OUT_CHANNELS=64, OUT_FEATURES=["res2", "res3", "res4", "res5"]
    )
    cfg.MODEL.FPN.update(IN_FEATURES=["res2", "res3", "res4", "res5"], OUT_CHANNELS=16)
    cfg.MODEL.SEM_SEG_HEAD.update(NAME="IFASemSegHead", NUM_CLASSES=7, CONVS_DIM=32)
    cfg.MODEL.IFA.update(HIDDEN_DIMS=[64], **ifa)
    return cfg


def test_points_survive_padding():
    """What the head is given are the same places of the padded picture."""
    cfg = make_cfg("FieldSegmentor", TARGETS="points", OHEM_THRESHOLD=1.0)
    model = FieldSegmentor(cfg)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((50, 61), (33, 90))]
    points = [torch.rand(20, 2) for _ in images]
    inputs = [
        {
            "image": image,
            "sem_seg_points": p,
            "sem_seg_point_labels": torch.randint(0, 7, (20,)),
            "sem_seg_num_uniform_points": 5 + i,
        }
        for i, (image, p) in enumerate(zip(images, points, strict=True))
    ]
    seen = []
    decode = model.sem_seg_head.decode
    model.sem_seg_head.decode = lambda levels, query: seen.append(query) or decode(levels, query)
    losses = model(inputs)
    assert torch.isfinite(losses["loss_sem_seg"])
    (query,) = seen
    pixels = query.coordinates * torch.tensor([64.0, 96.0])  # multiples of 32
    for i, image in enumerate(images):
        expected = points[i] * torch.tensor(image.shape[1:])
        assert torch.allclose(pixels[i], expected, atol=1e-3)
    # What the fields answer there is what the head decodes.
    model.eval()
    with torch.no_grad():
        fields = model.fields(inputs)
        levels = model.sem_seg_head.levels(_features(model, inputs))
        logits = decode(levels, query)
    for i, field in enumerate(fields):
        assert torch.allclose(field.at(points[i]).t(), logits[i], atol=1e-4)


def _features(model, inputs):
    return model.backbone(padded_images(model, inputs).tensor)


@pytest.mark.parametrize("meta", ["SemanticSegmentor", "FieldSegmentor"])
@pytest.mark.parametrize("with_points", [False, True])
def test_meta_architectures_train_with_points(meta, with_points):
    cfg = make_cfg(meta, TARGETS="uncertain_points", NUM_POINTS=30)
    model = (SemanticSegmentor if meta == "SemanticSegmentor" else FieldSegmentor)(cfg)
    inputs = []
    for size in ((50, 61), (33, 90)):
        one = {
            "image": torch.randint(0, 256, (3, *size), dtype=torch.uint8),
            "sem_seg": torch.randint(0, 7, size),
        }
        if with_points:
            points = PointSampler(65)(one["sem_seg"][None])
            one["sem_seg_points"] = points[0]
            one["sem_seg_point_labels"] = labels_at(one["sem_seg"][None], points)[0]
        inputs.append(one)
    losses = model(inputs)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.sem_seg_head.parameters())


def test_yacs_keys_reach_head_and_mapper():
    points = {"NUM_POINTS": 99, "IMPORTANCE_RATIO": 0.5}
    cfg = make_cfg("FieldSegmentor", TARGETS="jittered_grid", TARGET_SPACINGS=[1.0, 0.5])
    assert FieldSegmentor(cfg).sem_seg_head.targets.spacings == (1.0, 0.5)
    cfg = make_cfg("FieldSegmentor", TARGETS="uncertain_points", OVERSAMPLE_RATIO=2.0, **points)
    targets = FieldSegmentor(cfg).sem_seg_head.targets
    assert (targets.importance_ratio, targets.oversample_ratio) == (0.5, 2.0)
    assert targets.sampler == PointSampler(99, ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    cfg = make_cfg(
        "FieldSegmentor",
        **{"TARGETS": "points", "POINT_SAMPLING": "boundary", "BOUNDARY_WIDTH": 3, **points},
    )
    assert FieldSegmentor(cfg).sem_seg_head.targets.sampler == PointSampler(
        99, "boundary", 0.5, 3, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    )
    assert SemSegMapper(cfg, True).points is None
    cfg.INPUT.POINTS.update(NUM_POINTS=17, SAMPLING="class_balanced", IMPORTANCE_RATIO=0.25)
    assert SemSegMapper(cfg, True).points == PointSampler(17, "class_balanced", 0.25, 4)
    assert SemSegMapper(cfg, False).points is None
