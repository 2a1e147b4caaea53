"""Backbones of FFNet: their features, blocks and blur."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from ffnet_backbone import (
    VARIANTS,
    HalvingStem,
    ShortcutBlock,
    build_ffnet_backbone,
    feature_shapes,
)
from torch import nn

from ifa_d2.modeling.picture_fields import padded_images
from tests.projects.FFNet.published_network import BACKBONES, Backbone


def _on_meta(**options: object) -> nn.Module:
    with torch.device("meta"):
        return build_ffnet_backbone(**options)


CASES = [
    *((variant, {}) for variant in VARIANTS),
    *((variant, {"stride2_first": True}) for variant in ("18", "50", "22S")),
    *((variant, {"pre_down": True}) for variant in ("18", "46NS")),
    ("22S", {"stride2_first": True, "pre_down": True}),
]


@pytest.mark.parametrize(("variant", "options"), CASES)
def test_features(variant: str, options: dict[str, bool]) -> None:
    backbone = _on_meta(variant=variant, **options)
    shapes = backbone.output_shape()
    assert shapes == feature_shapes(variant, **options)
    finest = 4 << len(options)
    assert [shape.stride for shape in shapes.values()] == [finest << i for i in range(4)]
    assert backbone.size_divisibility == 8 * finest
    with torch.no_grad():
        features = backbone(torch.empty(1, 3, 256, 384, device="meta"))
    for name, shape in shapes.items():
        size = (256 // shape.stride, 384 // shape.stride)
        assert features[name].shape == (1, shape.channels, *size)


@pytest.mark.parametrize("variant", BACKBONES)
@pytest.mark.parametrize("first_stride", [1, 2])
def test_tensors_are_as_many_as_the_published(variant: str, first_stride: int) -> None:
    if variant.startswith("46"):
        ours, first_stride = _on_meta(variant=variant), 2
    else:
        ours = _on_meta(variant=variant, stride2_first=first_stride == 2)
    with torch.device("meta"):
        theirs = Backbone(variant, first_stride)
    counts = [sum(p.numel() for p in one.parameters()) for one in (ours, theirs)]
    assert counts[0] == counts[1]
    assert len(ours.state_dict()) == len(theirs.state_dict())


def test_pictures_of_any_size_are_padded() -> None:
    class Model(nn.Module):
        backbone = build_ffnet_backbone(variant="22S", stride2_first=True).eval()
        sem_seg_head = type("Head", (), {"levels": type("Levels", (), {"strides": {"res2": 8}})})
        pixel_mean, pixel_std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    images = padded_images(Model(), [{"image": torch.rand(3, 361, 481)}]).tensor
    assert images.shape[2:] == (384, 512)
    with torch.no_grad():
        sizes = [tuple(x.shape[2:]) for x in Model.backbone(images).values()]
    assert sizes == [(48, 64), (24, 32), (12, 16), (6, 8)]


def test_a_block_with_a_stride_has_a_shortcut() -> None:
    x = torch.rand(2, 8, 6, 10)
    block = ShortcutBlock(8, 8, stride=2)
    assert block(x).shape == (2, 8, 3, 5)
    # Without what the two convolutions add, the shortcut is what is left.
    nn.init.zeros_(block.conv2.norm.weight)
    assert torch.equal(block(x), block.shortcut(x).relu())
    assert ShortcutBlock(8, 8).shortcut is None


def test_stem_and_stages_are_frozen() -> None:
    backbone = build_ffnet_backbone(variant="46NS", freeze_at=2)
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}
    assert isinstance(backbone.res2[0].convs[0].norm, FrozenBatchNorm2d)


class _Blurred(nn.Module):
    in_channels, out_channels, stride = 3, 3, 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_the_blur_keeps_means_and_halves_sides() -> None:
    blur = HalvingStem(_Blurred()).double()
    assert blur.stride == 2
    assert float(blur.kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(blur.kernel, blur.kernel.T) and torch.equal(blur.kernel, blur.kernel.flip(0))
    assert not blur.state_dict()
    # The Gaussian of sigma 0.7 itself, but for what lies beyond five pixels.
    row = torch.tensor([-1.0, 0.0, 1.0]).double().square().div(-2 * 0.7**2).exp()
    torch.testing.assert_close(blur.kernel[2, 1:4] / blur.kernel[2, 2], row, rtol=1e-4, atol=0)
    flat = blur(torch.full((1, 3, 6, 10), 3.0).double())
    torch.testing.assert_close(flat, torch.full((1, 3, 3, 5), 3.0).double(), rtol=1e-6, atol=0)
    ramp = torch.arange(64.0).double().expand(1, 3, 32, 64)
    inner = blur(ramp)[..., 1:-1]
    torch.testing.assert_close(inner, ramp[:, :, :16, 1::2][..., 1:-1], rtol=1e-6, atol=1e-6)
    # Each channel by itself.
    one = torch.zeros(1, 3, 8, 8).double()
    one[:, 1, 3, 3] = 1
    assert blur(one)[:, [0, 2]].abs().max() == 0
    torch.testing.assert_close(blur(one)[0, 1, 1, 1], blur.kernel[2, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "152"}, r"variant must be one of 18, 34, .*122NS, got '152'"),
        ({"variant": "46N", "stride2_first": True}, "stride2_first must be False for variant 46N"),
        ({"variant": "18", "out_features": ["res6"]}, r"out_features .* got \['res6'\]"),
        ({"variant": "18", "out_features": []}, r"out_features .* got \[\]"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _on_meta(**options)
