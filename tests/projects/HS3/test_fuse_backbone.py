"""Hidden layers of heads beside a backbone's features."""

import pytest
import torch
from fuse_backbone import HS3FuseBackbone

from ifa_d2.modeling import build_resnet

SHAPES = {"res2": (64, 4), "res3": (128, 8), "res4": (256, 16), "res5": (512, 32)}


def fuse(*stages: str, **options) -> HS3FuseBackbone:
    bottom_up = build_resnet(depth=18, norm="BN")
    return HS3FuseBackbone(bottom_up=bottom_up, stages=stages, **options)


def test_features_are_the_backbones_and_a_layer_of_each_stage() -> None:
    backbone = fuse("res4", "res2", channels=6).eval()
    shapes = {n: (s.channels, s.stride) for n, s in backbone.output_shape().items()}
    assert shapes == {**SHAPES, "res4_head": (6, 16), "res2_head": (6, 4)}
    assert backbone.size_divisibility == 32
    assert backbone.padding_constraints == backbone.bottom_up.padding_constraints
    with torch.no_grad():
        image = torch.randn(2, 3, 64, 96)
        features, plain = backbone(image), backbone.bottom_up(image)
        assert list(features) == list(shapes)
        for name, feature in plain.items():
            torch.testing.assert_close(features[name], feature, rtol=0, atol=0)
        for stage in ("res2", "res4"):
            made = features[f"{stage}_head"]
            assert made.shape == (2, 6, 64 // SHAPES[stage][1], 96 // SHAPES[stage][1])
            torch.testing.assert_close(made, backbone.hidden[stage](plain[stage]))
            assert made.min() == 0 < made.max()


@pytest.mark.parametrize("stages", [(), ("res2", "res2"), ("res2", "res6")])
def test_stages_that_are_not_there(stages: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"stages must be different features of \['res2', "):
        fuse(*stages)
