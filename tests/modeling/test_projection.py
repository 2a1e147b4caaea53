"""Projections of features to levels."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec

from ifa_d2.modeling.projection import PyramidPooling
from tests.heads import make_head

SHAPES = {"res5": ShapeSpec(channels=12, stride=32), "res2": ShapeSpec(channels=4, stride=4)}


def make(**kwargs):
    options = {"in_features": ("res5", "res2"), "channels": [8], "aux_feature": None, **kwargs}
    head = make_head(input_shape=SHAPES, num_classes=3, **options)
    return head.levels.projections


@pytest.mark.parametrize(
    ("kwargs", "kinds", "channels"),
    [
        ({}, ["PointwiseProjection"] * 2, [(8,), (8,)]),
        ({"channels": [6, 3]}, ["PointwiseProjection"] * 2, [(3,), (6,)]),
        ({"projections": ["identity"]}, ["IdentityProjection"] * 2, [(4,), (12,)]),
        (
            {"projections": ["aspp", "pointwise"], "channels": [6, 3]},
            ["PointwiseProjection", "DeepLabASPP"],
            [(3,), (6,)],
        ),
        ({"aspp_dilations": (1, 2, 3)}, ["PointwiseProjection", "ASPPProjection"], [(8,), (8,)]),
        (
            {"projections": ["pyramid_pooling", "identity"], "pool_sizes": (1, 3)},
            ["IdentityProjection", "PyramidPooling"],
            [(4,), (12, 8, 8)],
        ),
    ],
)
def test_finest_first_and_of_the_channels_declared(kwargs, kinds, channels):
    made = make(**kwargs).eval()
    assert list(made) == ["res2", "res5"]
    assert [type(m).__name__ for m in made.values()] == kinds
    assert [m.level_channels for m in made.values()] == channels
    for (name, module), expected in zip(made.items(), channels, strict=True):
        levels = module(torch.randn(2, SHAPES[name].channels, 5, 7))
        levels = [levels] if torch.is_tensor(levels) else levels
        assert tuple(level.shape[1] for level in levels) == expected


def test_pyramid_pooling_averages_over_parts_of_the_image():
    module = PyramidPooling(3, 5, pool_sizes=(1, 3), norm="").eval()
    x = torch.rand(2, 3, 6, 9)
    whole, fine, coarse = module(x)
    assert whole is x
    parts = x.view(2, 3, 3, 2, 3, 3).mean(dim=(3, 5))
    weight, bias = module.convs[0].weight, module.convs[0].bias
    torch.testing.assert_close(fine, F.relu(F.conv2d(parts, weight, bias)))
    mean = x.mean(dim=(2, 3), keepdim=True)
    weight, bias = module.convs[1].weight, module.convs[1].bias
    torch.testing.assert_close(coarse, F.relu(F.conv2d(mean, weight, bias)))


def test_pyramid_pooling_of_fewer_cells_than_its_pools_and_of_one_picture():
    module = PyramidPooling(3, 5, norm="BN").train()
    levels = module(torch.rand(1, 3, 2, 3))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (2, 3),
        (6, 6),
        (3, 3),
        (2, 2),
        (1, 1),
    ]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"projections": ["conv"]}, r"projections must be of.*\['conv'\]"),
        ({"projections": ["identity"] * 3}, "projections must be one, or one for each"),
        ({"channels": [1, 2, 3]}, r"channels must be one.*\[1, 2, 3\]"),
        ({"projections": ["aspp"], "aspp_dilations": (1, 2)}, r"dilations.*\(1, 2\)"),
        ({"projections": ["aspp"], "aspp_dropout": 1.0}, "dropout.*1.0"),
        ({"projections": ["pyramid_pooling"], "pool_sizes": (0,)}, r"pool_sizes.*\(0,\)"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
