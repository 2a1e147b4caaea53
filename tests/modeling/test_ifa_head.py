"""The head inside Detectron2, over ResNets and FPNs."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_sem_seg_head
from torch import nn

from ifa_d2 import add_ifa_config
from ifa_d2.layers import GridQuery, textbook_alignment
from ifa_d2.modeling import IFASemSegHead, JitteredGridTargets
from ifa_d2.rasters.journal import model_digest
from tests.heads import make_head

SHAPES = {f"res{i + 2}": ShapeSpec(channels=4 * 2**i, stride=4 * 2**i) for i in range(4)}


def make(**kwargs) -> IFASemSegHead:
    kwargs = {"channels": 8, "hidden_dims": (12, 8), "aux_channels": 6, **kwargs}
    return make_head(input_shape=SHAPES, num_classes=5, **kwargs)


def make_features(height=64, width=96, batch=2, shapes=SHAPES):
    return {
        name: torch.randn(batch, s.channels, height // s.stride, width // s.stride)
        for name, s in shapes.items()
    }


@pytest.mark.parametrize("alignment", ["ifa", "bilinear", "nearest"])
@pytest.mark.parametrize("aspp", [None, (1, 2, 3)])
@pytest.mark.parametrize("norm", ["BN", "GN", "", "SyncBN", "FrozenBN"])
def test_shapes_and_gradients(alignment, aspp, norm):
    channels = 32 if norm == "GN" else 8  # Detectron2's GroupNorm has 32 groups
    head = make(
        alignment=alignment,
        aspp_dilations=aspp,
        norm=norm,
        channels=channels,
        hidden_dims=(2 * channels, 2 * channels),
        aux_channels=channels,
    )
    features = make_features()
    targets = torch.randint(0, 5, (2, 64, 96))
    logits, losses = head(features, targets)
    assert logits is None
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_aux"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    head.eval()
    with torch.no_grad():
        assert head.layers(features).shape == (2, 5, 16, 24)
        logits, losses = head(features, targets)
    assert logits.shape == (2, 5, 64, 96)
    assert losses == {}


@pytest.mark.parametrize("width", [16, 32, 48])
def test_group_norm_of_one_channel_a_group_is_refused(width):
    """It makes each channel its bias, whatever the pixel: logits would be constant."""
    constant = nn.GroupNorm(32, 32)(torch.randn(7, 32, 1, 1))
    assert constant.abs().max() < 1e-3
    with pytest.raises(ValueError, match=f"a layer of {width} channels"):
        make(norm="GN", channels=32, hidden_dims=(64, width), aux_channels=32)
    head = make(norm="GN", channels=32, hidden_dims=(64, 64), aux_channels=32).eval()
    with torch.no_grad():
        nn.init.normal_(head.alignment.predictor.weight)
        logits = head.layers(make_features())
    assert (logits.std(dim=(2, 3)) > 0).all()


def test_layers_is_the_textbook_on_the_finest_grid():
    head = make(hidden_dims=(12, 8, 8)).eval()
    features = make_features(32, 160)
    with torch.no_grad():
        expected = textbook_alignment(
            head.alignment, head.levels(features), GridQuery.regular(8, 40)
        )
        assert torch.allclose(head.layers(features), expected, atol=1e-5)


def test_features_in_any_order_finest_first():
    head = make(in_features=("res5", "res3", "res4"))
    assert head.levels.in_features == ("res3", "res4", "res5")
    assert head.common_stride == 8
    head.eval()
    with torch.no_grad():
        assert head(make_features())[0].shape == (2, 5, 64, 96)


def test_losses_are_of_the_upsampled_logits():
    head = make(ohem_threshold=1.0, aux_feature=None, loss_weight=2.0, norm="")
    features, targets = make_features(), torch.randint(0, 5, (2, 64, 96))
    _, losses = head(features, targets)
    logits, _ = head.eval()(features)
    expected = nn.functional.cross_entropy(logits, targets)
    assert torch.allclose(losses["loss_sem_seg"], 2 * expected)
    assert list(losses) == ["loss_sem_seg"]


def test_jittered_grid_reads_labels_where_it_asks(monkeypatch):
    """With logits that copy the label of the pixel asked, the loss vanishes at any jitter."""
    head = make(targets="jittered_grid", aux_feature=None, ohem_threshold=1.0, norm="")
    targets = torch.randint(0, 5, (2, 64, 96))
    asked = []

    def decode(levels, query):
        asked.append(query)
        rows = (query.rows.coordinates * 64).long().clamp(max=63)
        cols = (query.cols.coordinates * 96).long().clamp(max=95)
        labels = targets[:, rows][:, :, cols]
        return 50.0 * nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2).float()

    monkeypatch.setattr(head, "decode", decode)
    for _ in range(5):
        _, losses = head(make_features(), targets)
        assert losses["loss_sem_seg"] < 1e-6
    shifts = [float(query.rows.coordinates[3] * 16 - 3.5) for query in asked]
    assert len(set(shifts)) == 5
    assert all(-0.5 <= shift <= 0.5 for shift in shifts)
    assert all(query.size == (16, 24) for query in asked)


@pytest.mark.parametrize("targets", ["grid", "jittered_grid"])
def test_all_ignored_trains(targets):
    head = make(targets=targets)
    _, losses = head(make_features(), torch.full((2, 64, 96), 255))
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_label_out_of_range():
    targets = torch.zeros(2, 64, 96, dtype=torch.int64)
    targets[1, 3, 3] = 5
    with pytest.raises(ValueError, match=r"5 classes.*got \[5\]"):
        make()(make_features(), targets)


def test_training_needs_targets():
    with pytest.raises(ValueError, match="targets"):
        make()(make_features())


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"alignment": "cubic"}, "alignment.*'cubic'"),
        ({"in_features": ("res2", "p7")}, "'p7'"),
        ({"in_features": ()}, "in_features"),
        ({"aux_feature": "res9"}, "'res9'"),
        ({"aspp_dilations": (1, 2)}, "dilations"),
        ({"aspp_dilations": (1, 2, 3), "aspp_dropout": 1.0}, "dropout"),
        ({"ohem_threshold": 2}, "threshold"),
        ({"targets": "dots"}, "targets.*'dots'"),
    ],
)
def test_bad_options(kwargs, words):
    with pytest.raises(ValueError, match=words):
        make(**kwargs)


def make_cfg(backbone: str):
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.SEM_SEG_HEAD.NAME = "IFASemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 7
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    cfg.MODEL.IFA.HIDDEN_DIMS = [64]
    return cfg


def test_yacs_keys_reach_the_constructor():
    cfg = make_cfg("build_resnet_backbone")
    cfg.MODEL.SEM_SEG_HEAD.merge_from_list(["IN_FEATURES", ["res2", "res5"], "NORM", "BN"])
    cfg.MODEL.IFA.update(
        NUM_FREQUENCIES=3,
        LOCAL_ENSEMBLE=True,
        ASPP_DILATIONS=[1, 2, 3],
        AUX_FEATURE="res3",
        AUX_CHANNELS=9,
        OHEM_MIN_KEPT=17,
        UNFOLD=True,
        OHEM_THRESHOLD=0.5,
        AUX_LOSS_WEIGHT=0.3,
        ENCODING="fixed",
        TARGETS="jittered_grid",
    )
    head = build_sem_seg_head(cfg, SHAPES)
    assert isinstance(head, SEM_SEG_HEADS_REGISTRY.get("IFASemSegHead"))
    assert head.levels.in_features == ("res2", "res5")
    assert head.alignment.encodings[0].num_features == 2 + 4 * 3
    assert head.alignment.local_ensemble and head.alignment.unfold
    assert head.aux_heads[0].conv.weight.shape == (9, 8, 3, 3)
    assert (head.criterion.min_kept, head.criterion.threshold) == (17, 0.5)
    assert head.aux_loss_weight == 0.3
    assert isinstance(head.targets, JitteredGridTargets)
    assert head.alignment.mlp.layers[0].weight.shape[0] == 64
    assert isinstance(head.alignment.mlp.layers[0].norm, nn.BatchNorm2d)


@pytest.mark.parametrize("fpn", [False, True])
def test_inside_semantic_segmentor(fpn):
    """Trains and predicts at a picture's own odd size, over res2..res5 and over an FPN."""
    cfg = make_cfg("build_resnet_fpn_backbone" if fpn else "build_ifa_resnet_backbone")
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    if not fpn:
        cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.IFA.AUX_FEATURE = "res4"
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    inputs = [
        {
            "image": torch.randint(0, 256, (3, 75, 101), dtype=torch.uint8),
            "sem_seg": torch.randint(0, 7, (75, 101)),
        }
        for _ in range(2)
    ]
    losses = model(inputs)
    assert set(losses) == {"loss_sem_seg"} | (set() if fpn else {"loss_sem_seg_aux"})
    sum(losses.values()).backward()
    model.eval()
    with torch.no_grad():
        (out, _) = model([{**inputs[0], "height": 150, "width": 201}, inputs[1]])
    assert out["sem_seg"].shape == (7, 150, 201)
    assert torch.isfinite(out["sem_seg"]).all()


def test_losses_do_not_know_the_temperature_and_a_state_dict_keeps_it():
    head, other = make(), make()
    assert "temperature" not in head.state_dict()
    other.load_state_dict(head.state_dict())
    other.temperature = 0.5
    features, targets = make_features(), torch.randint(0, 5, (2, 64, 96))
    losses = [one(features, targets)[1]["loss_sem_seg"] for one in (head, other)]
    assert torch.equal(*losses)
    head.eval(), other.eval()
    with torch.no_grad():
        logits = [one(features)[0] for one in (head, other)]
        assert torch.equal(head.layers(features), other.layers(features))
    torch.testing.assert_close(logits[1], 2 * logits[0])
    # As part of a model, to and fro, strictly.
    around = nn.ModuleDict({"sem_seg_head": head})
    around.load_state_dict(nn.ModuleDict({"sem_seg_head": other}).state_dict(), strict=True)
    assert head.temperature == 0.5
    head.load_state_dict(make().state_dict(), strict=True)
    assert head.temperature == 1


def test_models_of_two_temperatures_are_two_to_a_raster_s_journal():
    head = make()
    before = model_digest(head)
    head.temperature = 0.5
    assert model_digest(head) != before and "temperature=0.5" in repr(head)
    head.temperature = 1.0
    assert model_digest(head) == before and "temperature" not in repr(head)
