"""Decoders on the finest grid, against torch's own operations and Detectron2's DeepLabV3+."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.projects.deeplab.semantic_seg import DeepLabV3PlusHead

from ifa_d2.layers import GridQuery, ImplicitAlignment, concatenate_levels
from ifa_d2.modeling.grid_decoder import AlignedLevels
from tests.heads import make_head

SIZES = [(13, 17), (7, 9), (4, 5), (1, 1)]


def make_levels(channels: int = 3) -> list[torch.Tensor]:
    return [torch.randn(2, channels, *size) for size in SIZES]


def make_aligned(**kwargs) -> AlignedLevels:
    options = {
        "encoding": "none",
        "num_frequencies": 2,
        "frequency_law": "pow2",
        "coupled_frequencies": False,
        "unfold": False,
        "local_ensemble": True,
    }
    return AlignedLevels([3] * 4, **{**options, **kwargs})


def test_bilinear_is_the_local_ensemble_without_position():
    levels, module = make_levels(), make_aligned()
    expected = concatenate_levels(
        levels, GridQuery.regular(*SIZES[0]), module.encodings, unfold=False, local_ensemble=True
    )
    torch.testing.assert_close(module(levels), expected)


def test_nearest_is_torchs():
    levels = make_levels()
    expected = [F.interpolate(x, size=SIZES[0], mode="nearest-exact") for x in levels]
    assert torch.equal(make_aligned(local_ensemble=False)(levels), torch.cat(expected, dim=1))


@pytest.mark.parametrize("unfold", [False, True])
@pytest.mark.parametrize("ensemble", [False, True])
def test_ifa_is_the_input_of_its_function(unfold, ensemble):
    """A pointwise MLP over the aligned levels is the alignment function."""
    options = {"encoding": "learned", "num_frequencies": 2, "unfold": unfold}
    alignment = ImplicitAlignment(
        in_channels=[3] * 4, num_classes=5, hidden_dims=(6,), local_ensemble=ensemble, **options
    ).eval()
    module = make_aligned(local_ensemble=ensemble, **options)
    module.encodings.load_state_dict(alignment.encodings.state_dict())
    levels = make_levels()
    with torch.no_grad():
        x = module(levels)
        assert x.shape[1] == module.out_channels
        logits = alignment.predictor(alignment.mlp(x))
        torch.testing.assert_close(
            logits, alignment(levels, GridQuery.regular(*SIZES[0])), rtol=1e-4, atol=1e-5
        )


SHAPES = {"res2": ShapeSpec(channels=6, stride=4), "res5": ShapeSpec(channels=10, stride=32)}


def test_deeplab_is_detectron2s():
    """With the same weights the logits are those of Detectron2's head."""
    theirs = DeepLabV3PlusHead(
        SHAPES,
        project_channels=[4],
        aspp_dilations=[1, 2, 3],
        aspp_dropout=0.1,
        decoder_channels=[7, 8],
        common_stride=4,
        norm="BN",
        train_size=None,
        num_classes=5,
    ).eval()
    ours = make_head(
        input_shape=SHAPES,
        num_classes=5,
        in_features=("res2", "res5"),
        projections=("pointwise", "aspp"),
        channels=(4, 8),
        aspp_dilations=(1, 2, 3),
        alignment="bilinear",
        decoder="conv",
        hidden_dims=(7, 7),
        aux_feature=None,
    ).eval()
    fine, coarse = (theirs.decoder[name] for name in ("res2", "res5"))
    for norm in (m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.running_mean, std=0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    with torch.no_grad():
        _copy(ours.levels.projections["res2"], fine["project_conv"])
        ours.levels.projections["res5"].load_state_dict(coarse["project_conv"].state_dict())
        _copy(ours.levels.grid_decoder.convs[0], fine["fuse_conv"][0])
        _copy(ours.alignment.mlp.layers[0], fine["fuse_conv"][1])
        _copy(ours.alignment.predictor, theirs.predictor)
        features = {"res2": torch.randn(2, 6, 16, 24), "res5": torch.randn(2, 10, 2, 3)}
        torch.testing.assert_close(
            ours.layers(features), theirs.layers(features), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(ours(features)[0], theirs(features)[0], rtol=1e-4, atol=1e-6)


def _copy(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    ours.weight.copy_(theirs.weight.reshape(ours.weight.shape))
    if ours.bias is not None:
        ours.bias.zero_() if theirs.bias is None else ours.bias.copy_(theirs.bias)
    if getattr(ours, "norm", None) is not None:
        ours.norm.load_state_dict(theirs.norm.state_dict())


@pytest.mark.parametrize("decoder", ["conv", "ocr"])
@pytest.mark.parametrize("alignment", ["ifa", "bilinear", "nearest"])
@pytest.mark.parametrize("norm", ["BN", ""])
def test_all_parameters_learn(decoder, alignment, norm):
    head = make_head(
        input_shape=SHAPES,
        num_classes=5,
        in_features=("res5", "res2"),
        channels=4,
        hidden_dims=(6, 8),
        alignment=alignment,
        decoder=decoder,
        norm=norm,
        aux_feature=None,
    )
    features = {"res2": torch.randn(2, 6, 16, 24), "res5": torch.randn(2, 10, 2, 3)}
    _, losses = head(features, torch.randint(0, 5, (2, 61, 90)))
    names = {"loss_sem_seg"} | ({"loss_sem_seg_regions"} if decoder == "ocr" else set())
    assert set(losses) == names
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"decoder": "mlp"}, "decoder must be one of.*'mlp'"),
        ({"decoder": "conv", "hidden_dims": ()}, "hidden_dims"),
        ({"hidden_dims": (8, 0)}, "hidden_dims"),
        (
            {"decoder": "conv", "local_ensemble": True, "ensemble_outputs": True},
            "'ensemble_outputs': True.* would be ignored.*'decoder': 'conv'",
        ),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_head(
            input_shape=SHAPES,
            num_classes=5,
            in_features=("res2", "res5"),
            aux_feature=None,
            **kwargs,
        )
