"""Labels, logits or refined labels of the meta-architecture, from both kinds of config."""

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


def test_logits_are_not_refined():
    options = ("MODEL.FIELD_SEGMENTOR.REFINEMENT.ENABLED", True)
    with pytest.raises(ValueError, match="refinement must be None with return_logits"):
        make_model("MODEL.FIELD_SEGMENTOR.RETURN_LOGITS", True, *options)
