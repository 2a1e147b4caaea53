"""Labels, logits or refined labels of the meta-architecture, from both kinds of config."""

from fractions import Fraction

import pytest
import torch
from detectron2.modeling import build_model

from ifa_d2 import get_config
from ifa_d2.modeling import FieldSegmentor, Refinement, SegmentationField


def make_model(*overrides) -> FieldSegmentor:
    cfg = get_config("shapes/ifa_r18.yaml")
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "FieldSegmentor"),
            *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16),
            *("MODEL.IFA.HIDDEN_DIMS", [16]),
            *overrides,
        ]
    )
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.sem_seg_head.alignment.predictor.weight)
    return model


def test_refined_labels_on_request():
    image = {"image": torch.randint(256, (3, 50, 70), dtype=torch.uint8), "height": 99, "width": 90}
    key = "MODEL.FIELD_SEGMENTOR.REFINEMENT"
    plain = make_model()
    assert plain.refinement is None
    dense = plain([image])[0]["sem_seg"]
    exact = make_model(f"{key}.ENABLED", True, f"{key}.THRESHOLD", float("inf"))
    assert torch.equal(exact([image])[0]["sem_seg"], dense)
    coarse = make_model(f"{key}.ENABLED", True, f"{key}.BUDGET", 1e-4, f"{key}.LEVELS", 3)
    assert coarse.refinement == Refinement(0.25, 1e-4, 3)
    labels = coarse([image])[0]["sem_seg"]
    assert labels.dtype == dense.dtype and labels.shape == dense.shape
    assert not torch.equal(labels, dense)
    field: SegmentationField = coarse.fields([image])[0]
    assert torch.equal(labels, field.refined_labels(refinement=coarse.refinement))


@pytest.mark.parametrize("norm", ["GN", "LN", "BN", "SyncBN", "naiveSyncBN", "FrozenBN", ""])
def test_labels_are_the_best_logits_with_any_norm(norm):
    options = ("MODEL.SEM_SEG_HEAD.NORM", norm, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32)
    model = make_model(*options, "MODEL.IFA.HIDDEN_DIMS", [96, 64])
    image = {"image": torch.randint(256, (3, 45, 70), dtype=torch.uint8)}
    (field,) = model.fields([image])
    labels = model([image])[0]["sem_seg"]
    assert torch.equal(labels.long(), field.logits().argmax(0))
    assert len(labels.unique()) > 1
    exact = Refinement(float("inf"))
    assert torch.equal(field.refined_labels(refinement=exact), field.labels())


def test_features_of_a_plain_backbone_cover_the_same_pixels():
    """Detectron2's own ResNet asks for no padding; a field's images are padded all the same."""
    options = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.FREEZE_AT", 0)
    model = make_model(*options)
    assert model.backbone.size_divisibility == 0
    image = torch.randint(256, (3, 65, 97), dtype=torch.uint8)
    (field,) = model.fields([{"image": image}])
    assert [tuple(level.shape[2:]) for level in field.levels] == [
        (24, 32),
        (12, 16),
        (6, 8),
        (3, 4),
    ]
    assert field.picture_share == (Fraction(65, 96), Fraction(97, 128))


def test_logits_are_not_refined():
    options = ("MODEL.FIELD_SEGMENTOR.REFINEMENT.ENABLED", True)
    with pytest.raises(ValueError, match="refinement must be None with return_logits"):
        make_model("MODEL.FIELD_SEGMENTOR.RETURN_LOGITS", True, *options)
