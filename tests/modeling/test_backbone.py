import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.structures import ImageList

from ifa_d2.config import add_ifa_config
from ifa_d2.modeling import build_resnet


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("depth", "stem_channels", "in_millions"),
    # torchvision's ResNets without their classifier have 11.177, 21.285, 23.508 and 42.500; the
    # deep stems' three convolutions with norms take 0.028768 (64) and 0.130624 (128), not 0.009536
    [
        (18, None, 11.176512),
        (34, None, 21.284672),
        (50, None, 23.508032),
        (101, None, 42.500160),
        (50, 128, 23.631808),
        (101, 128, 42.623936),
    ],
)
def test_parameter_counts(depth: int, stem_channels: int | None, in_millions: float) -> None:
    net = build_resnet(depth=depth, norm="BN", stem_channels=stem_channels)
    assert _count(net) == round(in_millions * 1e6)


@pytest.mark.parametrize("depth", [18, 50])
def test_deep_stem_layout(depth: int) -> None:
    channels = {18: 64, 50: 128}[depth]
    stem = build_resnet(depth=depth, norm="BN", stem_channels=channels).stem
    convs = [stem.conv1, stem.conv2, stem.conv3]
    assert [c.out_channels for c in convs] == [channels // 2, channels // 2, channels]
    assert [c.stride for c in convs] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize(("depth", "widths"), [(18, 64), (50, 256)])
def test_channels_and_strides_match_what_comes_out(depth: int, widths: int) -> None:
    net = build_resnet(depth=depth, norm="BN", stem_channels=64).eval()
    with torch.no_grad():
        features = net(torch.randn(2, 3, 64, 96))
    shapes = net.output_shape()
    assert list(features) == ["res2", "res3", "res4", "res5"]
    for index, (name, feature) in enumerate(features.items()):
        assert shapes[name].stride == 4 * 2**index
        assert shapes[name].channels == widths * 2**index
        stride = shapes[name].stride
        assert feature.shape == (2, shapes[name].channels, 64 // stride, 96 // stride)


def test_multi_grid_dilates_res5_alone_and_keeps_its_stride() -> None:
    net = build_resnet(depth=50, norm="BN", stem_channels=128, res5_multi_grid=(2, 2, 4))
    assert [block.conv2.dilation for block in net.res5] == [(2, 2), (2, 2), (4, 4)]
    assert [block.conv2.stride for block in net.res5] == [(2, 2), (1, 1), (1, 1)]
    assert [block.conv1.stride for block in net.res5] == [(1, 1)] * 3
    assert all(block.conv2.dilation == (1, 1) for block in net.res4)


@pytest.mark.parametrize("depth", [18, 50])
def test_blocks_begin_as_their_shortcuts(depth: int) -> None:
    net = build_resnet(depth=depth, norm="BN", zero_init_residual=True).eval()
    feature = torch.rand(1, net.res3[1].in_channels, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(net.res3[1](feature), feature)
    other = build_resnet(depth=depth, norm="BN", zero_init_residual=False).eval()
    with torch.no_grad():
        assert not torch.allclose(other.res3[1](feature), feature)


def test_frozen_norms_are_not_zeroed() -> None:
    net = build_resnet(depth=18, norm="FrozenBN")
    assert torch.all(net.res3[1].conv2.norm.weight == 1)


def test_freeze_at() -> None:
    net = build_resnet(depth=18, norm="BN", freeze_at=2)
    trained = {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}


def test_later_stages_are_left_out() -> None:
    net = build_resnet(depth=18, norm="BN", out_features=("res2", "res3"))
    assert list(net.output_shape()) == ["res2", "res3"]
    assert not hasattr(net, "res4")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 20}, "depth.*18.*got 20"),
        ({"depth": 18, "res5_multi_grid": (2, 2)}, r"res5_multi_grid.*18.*\[2, 2\]"),
        ({"depth": 50, "res5_multi_grid": (2, 2)}, r"res5_multi_grid.*3 dilations.*\[2, 2\]"),
        ({"depth": 50, "res5_multi_grid": (2, 0, 2)}, r"res5_multi_grid.*\[2, 0, 2\]"),
        ({"depth": 18, "stem_channels": 33}, "stem_channels.*even.*33"),
        ({"depth": 18, "out_features": ("res6",)}, "out_features.*res6"),
        ({"depth": 50, "output_stride": 4}, r"output_stride.*\[8, 16, 32\], got 4"),
        ({"depth": 18, "output_stride": 8}, "output_stride.*32 at depth 18.*got 8"),
        ({"depth": 18, "res2_pool": 0}, "res2_pool.*got 0"),
        ({"depth": 18, "out_features": ()}, "out_features"),
    ],
)
def test_mistakes_are_named(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_resnet(norm="BN", **kwargs)


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [(16, (4, 8, 16, 16), (1, 4, 4, 8)), (8, (4, 8, 8, 8), (2, 8, 8, 16))],
)
def test_output_stride_puts_dilation_in_place_of_stride(output_stride, strides, dilations):
    """Dilations of res5's blocks multiply with those of the multi-grid."""
    net = build_resnet(
        depth=50, norm="BN", res5_multi_grid=(2, 2, 4), output_stride=output_stride
    ).eval()
    features = net(torch.zeros(1, 3, 64, 64))
    assert tuple(s.stride for s in net.output_shape().values()) == strides
    assert tuple(64 // f.shape[2] for f in features.values()) == strides
    blocks = [net.res4[0], *net.res5]
    assert tuple(block.conv2.dilation[0] for block in blocks) == dilations
    plain = build_resnet(depth=50, norm="BN", res5_multi_grid=(2, 2, 4))
    assert net.state_dict().keys() == plain.state_dict().keys()
    built = _yacs_resnet(
        DEPTH=50,
        NORM="BN",
        RES4_DILATION={16: 1, 8: 2}[output_stride],
        RES5_DILATION={16: 2, 8: 4}[output_stride],
        RES5_MULTI_GRID=[2, 2, 4],
    )
    assert str(built) == str(net)


@pytest.mark.parametrize("pool", [2, 4])
def test_pool_after_res2_leaves_res2_and_its_weights(pool):
    torch.manual_seed(3)
    plain = build_resnet(depth=18, norm="BN", zero_init_residual=False).eval()
    net = build_resnet(depth=18, norm="BN", zero_init_residual=False, res2_pool=pool).eval()
    net.load_state_dict(plain.state_dict())
    assert net.size_divisibility == 32 * pool
    image = torch.rand(1, 3, 32 * pool, 64 * pool)
    with torch.no_grad():
        features, expected = net(image), plain(image)
        assert torch.equal(features["res2"], expected["res2"])
        pooled = torch.nn.functional.avg_pool2d(expected["res2"], pool)
        assert torch.equal(features["res3"], plain.res3(pooled))
    strides = [s.stride for s in net.output_shape().values()]
    assert strides == [4, 8 * pool, 16 * pool, 32 * pool]
    assert features["res5"].shape[2:] == (1, 2)
    frozen = build_resnet(depth=18, norm="BN", res2_pool=pool, freeze_at=3)
    assert not any(p.requires_grad for p in frozen.res3.parameters())


def _yacs_resnet(**resnets: object):
    cfg = get_cfg()
    add_ifa_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_ifa_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return build_backbone(cfg, ShapeSpec(channels=3))


def test_yacs_builds_the_same_network() -> None:
    torch.manual_seed(3)
    ours = build_resnet(depth=50, norm="BN", stem_channels=128, res5_multi_grid=(2, 2, 4))
    torch.manual_seed(3)
    built = _yacs_resnet(
        DEPTH=50, NORM="BN", STEM_TYPE="deeplab", STEM_OUT_CHANNELS=128, RES5_MULTI_GRID=[2, 2, 4]
    )
    assert str(built) == str(ours)
    expected = ours.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in built.state_dict().items())


def test_yacs_r18() -> None:
    built = _yacs_resnet(
        DEPTH=18, NORM="BN", RES2_OUT_CHANNELS=64, STEM_TYPE="deeplab", STEM_OUT_CHANNELS=64
    )
    assert _count(built) == _count(build_resnet(depth=18, norm="BN", stem_channels=64))


@pytest.mark.parametrize(
    ("resnets", "message"),
    [
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS must be 64.*got 256"),
        ({"NUM_GROUPS": 32}, "NUM_GROUPS must be 1.*got 32"),
        ({"RES5_DILATION": 3}, r"RES5_DILATION must be one of.*got \(1, 3\)"),
        ({"STEM_TYPE": "deep"}, "STEM_TYPE.*deep"),
        ({"STEM_TYPE": "basic", "STEM_OUT_CHANNELS": 128}, "STEM_OUT_CHANNELS.*128"),
    ],
)
def test_yacs_mistakes_are_named(resnets: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _yacs_resnet(**resnets)


@pytest.mark.parametrize(("out_features", "divisor"), [(("res2", "res5"), 32), (("res3",), 8)])
def test_pictures_are_padded_to_whole_cells(out_features, divisor):
    backbone = build_resnet(depth=18, norm="BN", out_features=out_features)
    assert backbone.size_divisibility == divisor
    padded = ImageList.from_tensors([torch.zeros(3, 33, 65)], backbone.size_divisibility)
    assert all(size % divisor == 0 for size in padded.tensor.shape[-2:])


def test_averaged_shortcuts() -> None:
    """Where a stage halves its maps, the shortcut sees all cells; its parameters are the same."""
    torch.manual_seed(3)
    plain = build_resnet(depth=50, norm="BN")
    torch.manual_seed(3)
    averaged = build_resnet(depth=50, norm="BN", avg_down=True)
    expected = plain.state_dict()
    assert averaged.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in averaged.state_dict().items())
    x = torch.randn(1, 256, 7, 10)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 1), mode="replicate")
    blocks = padded.unflatten(2, (4, 2)).unflatten(4, (5, 2)).mean((3, 5))
    mine, other = averaged.eval().res3[0].shortcut, plain.eval().res3[0].shortcut
    other.stride = (1, 1)
    torch.testing.assert_close(mine(x), other(blocks), rtol=1e-4, atol=1e-5)
    # res2 keeps its size, and its shortcut.
    assert type(averaged.res2[0].shortcut) is type(plain.res2[0].shortcut)


def test_yacs_averages_shortcuts() -> None:
    built = _yacs_resnet(DEPTH=50, NORM="BN", AVG_DOWN=True)
    ours = build_resnet(depth=50, norm="BN", avg_down=True)
    assert str(built) == str(ours)
    assert built.res3[0].shortcut.stride == (1, 1)
