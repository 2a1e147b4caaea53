"""What holds for every way to bring levels together, inside the head."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ifa_d2.layers import GridQuery, PointQuery
from ifa_d2.modeling import IFASemSegHead, SegmentationField
from ifa_d2.modeling.alignments import AlignSeg, Carafe
from ifa_d2.modeling.head_config import ALIGNMENTS
from tests.heads import make_head

SHAPES = {
    "res2": ShapeSpec(channels=4, stride=4),
    "res3": ShapeSpec(channels=6, stride=8),
    "res4": ShapeSpec(channels=10, stride=16),
}
CASES = {
    "ifa": ("ifa", {}),
    "bilinear": ("bilinear", {}),
    "nearest": ("nearest", {}),
    "deconvolution": ("deconvolution", {}),
    "wide deconvolution": ("deconvolution", {"kernel_size": (4, 8)}),
    "upsampling": ("upsampling", {}),
    "carafe": ("carafe", {"compressed_channels": 4, "kernel_size": 3}),
    "alignseg": ("alignseg", {}),
    "sapa inner": ("sapa", {"similarity": "inner"}),
    "sapa bilinear": ("sapa", {"similarity": "bilinear", "embedding_channels": 3}),
    "sapa gated": ("sapa", {"embedding_channels": 3, "kernel_size": 3}),
}
DENSE = [case for case, (name, _) in CASES.items() if name not in ("ifa", "bilinear", "nearest")]
every = pytest.mark.parametrize("case", CASES)
dense = pytest.mark.parametrize("case", DENSE)


def make(case: str, **kwargs) -> IFASemSegHead:
    """A head of the case, whose learned offsets and kernels are not those of the start."""
    torch.manual_seed(0)
    alignment, options = CASES[case]
    kwargs = {"channels": 8, "hidden_dims": (12, 8), "aux_feature": None, **kwargs}
    head = make_head(
        input_shape=SHAPES,
        num_classes=5,
        in_features=tuple(SHAPES),
        alignment=alignment,
        alignment_options=options,
        ohem_threshold=1.0,
        **kwargs,
    )
    for module in head.modules():
        if isinstance(module, AlignSeg):
            for name, parameter in module.named_parameters():
                if "offsets.1" in name:
                    nn.init.normal_(parameter, std=0.1)
        elif isinstance(module, Carafe):
            for layer in module.layers:
                nn.init.normal_(layer.encode.weight, std=0.3)
    nn.init.normal_(head.alignment.predictor.weight)
    return head


def make_features(*sizes: tuple[int, int], batch: int = 2) -> dict[str, Tensor]:
    """Maps as a backbone of rounded-up halves makes them of 52 x 75 pixels."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(batch, shape.channels, *size, generator=generator)
        for (name, shape), size in zip(
            SHAPES.items(), sizes or ((13, 19), (7, 10), (4, 5)), strict=True
        )
    }


def test_cases_are_all_methods() -> None:
    assert {name for name, _ in CASES.values()} == set(ALIGNMENTS)


@dense
def test_one_level_on_the_finest_grid(case: str) -> None:
    head = make(case).eval()
    with torch.no_grad():
        (level,) = head.levels(make_features())
    channels = 8 if case == "alignseg" else 3 * 8
    assert level.shape == (2, channels, 13, 19)
    assert head.alignment.in_channels == (channels,)


@every
@pytest.mark.parametrize("size", [(13, 19), (26, 38), (9, 5), (40, 1)])
def test_decodes_at_any_size(case: str, size: tuple[int, int]) -> None:
    head = make(case).eval()
    features = make_features()
    query = GridQuery.regular(*size)
    with torch.no_grad():
        levels = head.levels(features)
        logits = head.decode(levels, query)
        assert logits.shape == (2, 5, *size)
        rows, cols = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in size)
        points = torch.cartesian_prod(rows, cols).expand(2, -1, -1)
        points = head.decode(levels, PointQuery(points)).unflatten(2, size)
    assert torch.allclose(logits, points, atol=1e-4)


@dense
def test_exact_on_the_finest_grid(case: str) -> None:
    """There the MLP sees the aligned features themselves."""
    head = make(case).eval()
    features = make_features()
    with torch.no_grad():
        (level,) = head.levels(features)
        expected = head.alignment.predictor(head.alignment.mlp(level))
        assert torch.allclose(head.layers(features), expected, atol=1e-4)


@dense
@pytest.mark.parametrize("norm", ["BN", ""])
def test_gradients_reach_every_parameter(case: str, norm: str) -> None:
    head = make(case, norm=norm)
    features = {name: f.requires_grad_() for name, f in make_features().items()}
    head(features, torch.randint(0, 5, (2, 52, 76)))[1]["loss_sem_seg"].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    for name, parameter in head.levels.dense_alignment.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert all(feature.grad.abs().max() > 0 for feature in features.values())


@every
def test_learns(case: str) -> None:
    """Ten steps take away a tenth of the loss, where a coarse feature tells the class."""
    head = make(case)
    features = make_features()
    targets = features["res4"][:, :5].argmax(1).repeat_interleave(16, 1).repeat_interleave(16, 2)
    targets = targets[:, :52, :76]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(11):
        loss = head(features, targets)[1]["loss_sem_seg"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "case", [c for c in DENSE if c not in ("deconvolution", "alignseg", "wide deconvolution")]
)
def test_constant_features_stay_constant(case: str) -> None:
    """Away from the border; where kernels are weights of a mean, at their value."""
    head = make(case).eval()
    features = {
        name: feature[:, :, :1, :1].expand(-1, -1, *size)
        for (name, feature), size in zip(
            make_features().items(), ((40, 48), (20, 24), (10, 12)), strict=True
        )
    }
    with torch.no_grad():
        inner = head.levels(features)[0][:, :, 16:-16, 16:-16]
        own = torch.cat([level[:, :, :1, :1] for level in head.levels.project(features)], dim=1)
    assert torch.allclose(inner, inner[:, :, :1, :1].expand_as(inner), atol=1e-5)
    if case != "upsampling":
        assert torch.allclose(inner[:, :, :1, :1], own, atol=1e-5)


@every
def test_state_dict_round_trip(case: str) -> None:
    head, other = make(case).eval(), make(case).eval()
    features = make_features()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(head.state_dict())
    with torch.no_grad():
        assert torch.equal(head.layers(features), other.layers(features))


@dense
def test_memory_format_does_not_matter(case: str) -> None:
    head = make(case).eval()
    features = make_features()
    levels = [torch.randn(2, 8, *f.shape[2:]) for f in features.values()]
    if head.levels.dense_alignment.takes_coarsest:
        levels.append(features["res4"])
    last = [level.contiguous(memory_format=torch.channels_last) for level in levels]
    with torch.no_grad():
        (left,), (right,) = head.levels.dense_alignment(levels), head.levels.dense_alignment(last)
    assert (left - right).abs().max() < 1e-5 * left.abs().max()


@dense
@pytest.mark.parametrize(
    "sizes", [((16, 20), (8, 10), (4, 5)), ((9, 9), (5, 5), (5, 4)), ((3, 1), (2, 1), (1, 1))]
)
def test_levels_of_other_sizes(case: str, sizes: tuple[tuple[int, int], ...]) -> None:
    """Whole multiples, levels larger than their stride says, and maps of one cell."""
    head = make(case).eval()
    with torch.no_grad():
        logits = head.layers(make_features(*sizes))
    assert logits.shape == (2, 5, *sizes[0])
    assert torch.isfinite(logits).all()


@dense
def test_levels_of_different_widths(case: str) -> None:
    if case in ("alignseg", "sapa inner"):
        with pytest.raises(ValueError, match=r"in_channels must be equal.*\(4, 6, 8\)"):
            make(case, channels=(4, 6, 8))
        return
    head = make(case, channels=(4, 6, 8)).eval()
    with torch.no_grad():
        (level,) = head.levels(make_features())
    assert level.shape == (2, 18, 13, 19)


@dense
def test_inside_a_field(case: str) -> None:
    """Windows and labels of a picture come as from any other head."""
    head = make(case).eval()
    features = make_features(batch=1)
    with torch.no_grad():
        levels = head.levels.at_request(features)
    field = SegmentationField(head.alignment, levels, (52, 76))
    labels = field.labels((31, 47))
    assert labels.shape == (31, 47)
    assert torch.equal(labels, field.logits((31, 47)).argmax(0).to(labels.dtype))
    whole, part = field.logits(), field.logits(window=(8, 12, 20, 44))
    assert torch.allclose(whole[:, 8:20, 12:44], part, atol=1e-5)


@dense
def test_bfloat16_autocast(case: str) -> None:
    head = make(case).eval()
    features = make_features()
    with torch.no_grad():
        expected = head.levels(features)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (level,) = head.levels(features)
    assert (level - expected).abs().max() < 0.1 * expected.abs().max()
    head.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(features, torch.randint(0, 5, (2, 52, 76)))[1]["loss_sem_seg"]
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
