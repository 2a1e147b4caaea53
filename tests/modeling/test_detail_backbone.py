"""A level of the picture's own pixels beside a backbone's features."""

import pytest
import torch
from detectron2.modeling import SemanticSegmentor

from ifa_d2.modeling import DetailBackbone, FieldSegmentor, build_resnet
from tests.heads import make_head


def make(**kwargs) -> DetailBackbone:
    torch.manual_seed(0)
    return DetailBackbone(bottom_up=build_resnet(depth=18, norm="BN", stem_channels=64), **kwargs)


def test_features_are_the_backbones_and_one_more():
    backbone = make(channels=5).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = backbone(image)
        below = backbone.bottom_up(image)
    shapes = backbone.output_shape()
    assert list(features) == list(shapes) == ["detail", "res2", "res3", "res4", "res5"]
    for name, feature in features.items():
        assert feature.shape[1] == shapes[name].channels
        assert feature.shape[2:] == (64 // shapes[name].stride, 96 // shapes[name].stride)
    assert all(torch.equal(features[name], below[name]) for name in below)
    assert backbone.size_divisibility == backbone.bottom_up.size_divisibility
    assert backbone.padding_constraints == backbone.bottom_up.padding_constraints


@pytest.mark.parametrize(("num_convs", "reach"), [(1, 1), (2, 2), (3, 3)])
def test_the_level_sees_as_far_as_its_convolutions(num_convs, reach):
    backbone = make(num_convs=num_convs).eval()
    image = torch.randn(1, 3, 32, 32)
    other = image.clone()
    other[:, :, 16, 16] += 1
    with torch.no_grad():
        changed = (backbone(image)["detail"] != backbone(other)["detail"]).any(1)[0].nonzero()
    assert (changed - 16).abs().max() <= reach


def test_a_field_over_it_has_a_cell_for_each_pixel_and_trains():
    backbone = make(channels=4)
    head = make_head(
        input_shape=backbone.output_shape(),
        num_classes=3,
        in_features=list(backbone.output_shape()),
        channels=8,
        projections=["identity", *["pointwise"] * 4],
        hidden_dims=(8,),
        local_ensemble=True,
        targets="points",
        num_points=50,
        aux_feature=None,
    )
    assert head.common_stride == 1
    assert head.levels.level_channels == (4, 8, 8, 8, 8)
    pixels = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    model = FieldSegmentor(backbone=backbone, sem_seg_head=head, **pixels)
    image = torch.rand(3, 40, 56)
    losses = model([{"image": image, "sem_seg": torch.randint(0, 3, (40, 56))}])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in backbone.convs.parameters())
    labels = model.eval()([{"image": image, "height": 40, "width": 56}])[0]["sem_seg"]
    plain = SemanticSegmentor(backbone=backbone, sem_seg_head=head, **pixels).eval()
    with torch.no_grad():
        logits = plain([{"image": image, "height": 40, "width": 56}])[0]["sem_seg"]
    # Its grid is the pixels' own: nothing is left to be interpolated.
    assert (logits.argmax(0) == labels).float().mean() > 0.99


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"out_feature": "res2"}, "out_feature must be a name other than.*'res2'"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"num_convs": 0}, "num_convs must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
