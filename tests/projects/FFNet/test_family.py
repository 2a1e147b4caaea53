"""Names, costs and heads of the published family."""

import pytest
import torch
from detectron2.config import instantiate
from ffnet_family import FFNetName, ffnet_model, parse_name, put_head
from ffnet_head import Adapter, UpHead
from list_models import PublishedModel, count, main, read_published
from torch import nn

from ifa_d2 import get_config
from ifa_d2.layers import GridQuery, ImplicitAlignment

PUBLISHED = read_published()


def test_the_whole_family_is_there() -> None:
    assert len(PUBLISHED) == 50
    kinds = {name.rpartition("_")[2] if "mobile" not in name else "mobile" for name in PUBLISHED}
    assert kinds == {"AAA", "ABB", "BBB", "CBB", "dAAA", "dAAC", "dBBB", "mobile"}
    assert PUBLISHED["150_AAA"].miou == 84.4 and PUBLISHED["46NS_CCC_mobile"].miou == 76.7


@pytest.mark.parametrize("model", PUBLISHED.values(), ids=PUBLISHED)
def test_costs_are_the_published(model: PublishedModel) -> None:
    params, macs = count(model.name, model.size)
    # to the digit that is written, which is closer than 0.1 % but for the smallest
    assert (round(params / 1e6, 2), round(macs / 1e9, 1)) == (model.params_m, model.macs_g)
    assert macs / 1e9 == pytest.approx(model.macs_g, rel=1e-3)


def test_parameters_are_exact() -> None:
    assert count("40S_dBBB", (1024, 2048)) == (13_911_283, 62_367_203_328)
    # Half pictures cost what small ones do, and the blur, a weighted sum of 25 pixels.
    small, half = count("40S_BCC", (512, 1024)), count("40S_BCC_pre_down", (1024, 2048))
    assert half == (small[0], small[1] + 3 * 25 * 512 * 1024)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("86_ABB", ("86", False, "B", "B", False, False)),
        ("segmentation_ffnet78S_dBBB_mobile", ("78S", True, "B", "B", True, False)),
        ("46NS_CCC_mobile_pre_down", ("46NS", False, "C", "C", True, True)),
    ],
)
def test_names(name: str, expected: tuple) -> None:
    assert parse_name(name) == FFNetName(*expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("86-ABB", "such as 86_ABB, .* got '86-ABB'"),
        ("86_ABD", "got '86_ABD'"),
        ("86_AB", "got '86_AB'"),
        ("classification_ffnet86_AAX", "got 'classification_ffnet86_AAX'"),
        ("152_AAA", "backbones are 18, 34, .* got '152_AAA'"),
        ("86S_ABB", "must have B, the stem of 86S, as first letter: '86S_ABB'"),
        ("46N_dCBB", "stride2_first must be False for variant 46N"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ffnet_model(name)


def _up_head(interpolation: str = "bilinear", **options: object) -> UpHead:
    known = {"in_channels": (4, 6, 8), "strides": (4, 8, 16), "norm": "BN"}
    known |= {"out_channels": (5, 3, 2), "hidden_channels": 7, "interpolation": interpolation}
    return UpHead(**{**known, **options}).eval()


def _levels(size: int = 8) -> list[torch.Tensor]:
    return [torch.rand(2, 4 + 2 * i, size >> i, 2 * size >> i) for i in range(3)]


def test_a_level_reaches_its_own_and_finer_maps_alone() -> None:
    head, levels = _up_head(), _levels()
    head.hidden = nn.Identity()  # the maps themselves
    before = head(levels)[0]
    assert before.shape == (2, 5 + 3 + 2, 8, 16)
    for index, first_changed in ((0, 0), (1, 0), (2, 0)):
        changed = [x + (i == index) for i, x in enumerate(levels)]
        maps = (head(changed)[0] != before).flatten(2).any(2).any(0)
        groups = [bool(part.any()) for part in maps.split([5, 3, 2])]
        assert groups == [i <= index for i in range(3)], first_changed


def test_interpolations() -> None:
    levels = _levels()
    heads = [_up_head(kind) for kind in ("bilinear", "corner_aligned", "nearest")]
    for other in heads[1:]:
        other.load_state_dict(heads[0].state_dict())
    made = [head(levels)[0] for head in heads]
    for i in range(3):
        assert not torch.allclose(made[i], made[i - 1], atol=1e-3)
    # Levels that say the same everywhere leave nothing to interpolate, but for zeros at the border.
    flat = [torch.full_like(level, 0.5) for level in _levels(64)]
    made = [head(flat)[0][:, :, 31:33, 60:68] for head in heads]
    torch.testing.assert_close(made[0], made[1])
    torch.testing.assert_close(made[0], made[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "bicubic"}, "one of bilinear, corner_aligned, nearest, got 'bicubic'"),
        ({"out_channels": (1, 2)}, r"out_channels must be 3 positive sizes.* got \(1, 2\)"),
        ({"out_channels": (1, 0, 2)}, r"got \(1, 0, 2\)"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"strides": (4, 8, 9)}, r"multiples of the first.*\(4, 8, 9\)"),
    ],
)
def test_mistakes_of_the_up_head_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _up_head(**options)


def test_an_adapter_needs_no_bias_but_without_norm() -> None:
    assert Adapter(3, 4, norm="BN").bias is None
    assert Adapter(3, 4, norm="").bias is not None


@pytest.mark.parametrize("norm", ["BN", "GN", ""])
def test_every_parameter_learns(norm: str) -> None:
    model = ffnet_model("46NS_CBB", norm=norm)
    model.sem_seg_head.num_classes = 3
    model = instantiate(model)
    image, label = torch.rand(3, 64, 96) * 255, torch.randint(3, (64, 96))
    losses = model([{"image": image, "sem_seg": label}] * 2)
    assert losses.keys() == {"loss_sem_seg"}
    losses["loss_sem_seg"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_field_and_dense_head_are_one_function() -> None:
    """The classifier of 3x3 cells as a field on its grid is a convolution."""
    classifier = ImplicitAlignment(
        in_channels=[6],
        num_classes=4,
        hidden_dims=[],
        encoding="none",
        unfold=True,
        local_ensemble=True,
    )
    x = torch.rand(2, 6, 5, 7)
    weight = classifier.predictor.weight.view(4, 6, 3, 3)
    expected = nn.functional.conv2d(x, weight, classifier.predictor.bias, padding=1)
    torch.testing.assert_close(classifier([x], GridQuery.regular(5, 7)), expected)
    with torch.no_grad():
        torch.testing.assert_close(classifier([x], GridQuery.regular(5, 7)), expected)
        # Between cells it is interpolated.
        finer = nn.functional.interpolate(expected, scale_factor=4, mode="bilinear")
        torch.testing.assert_close(classifier([x], GridQuery.regular(20, 28)), finer)


def test_ifa_takes_the_place_of_the_up_head() -> None:
    model = ffnet_model("78S_dBBB")
    put_head(model, get_config("cityscapes/ifa_r50.py").model.sem_seg_head)
    with torch.device("meta"):
        head = instantiate(model).sem_seg_head
    assert head.levels.dense_alignment is None and not head.aux_heads
    assert head.levels.strides == {"res2": 8, "res3": 16, "res4": 32, "res5": 64}
    assert head.alignment.in_channels == (256,) * 4
    assert list(head.levels.feature_channels.values()) == [64, 128, 192, 320]


def test_the_command_lists_models(capsys: pytest.CaptureFixture) -> None:
    main(["40S_dBBB_mobile", "46NS_CCC_mobile"])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert "| 13.911 (13.91)" in rows[2] and "| 62.37 (62.4)" in rows[2] and "| 79.2" in rows[2]
    assert "512x1024" in rows[3]


def test_the_command_names_an_unknown_model() -> None:
    with pytest.raises(SystemExit, match=r"error: NAME must be one of 150_AAA, .* got '18_AAA'"):
        main(["18_AAA"])
