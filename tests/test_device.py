"""Weights on one device and inputs on another: results, copies and waits.

On ``meta`` tensors have a shape, a type and a device, but no values. What runs there reads no value
back from its device, and leaves nothing on the CPU that has to be concatenated or multiplied with
its tensors. ``torch.autocast`` does not know ``meta``, so that encodings of the position and losses
do not run there.

Only tests marked ``gpu`` check

- that inputs on the CPU are sent where the weights are, of every alignment method;
- that logits, losses and gradients equal the CPU's;
- how often the host waits for the device, and where;
- how many bytes are copied to the device and from it.
"""

import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from torch import Tensor

from ifa_d2.data.points import PointSampler
from ifa_d2.layers import GridQuery, GridSubset, ImplicitAlignment, PointQuery
from ifa_d2.modeling import (
    FieldSegmentor,
    IFASemSegHead,
    MultiViewSegmentor,
    OhemCrossEntropy,
    SegmentationField,
)
from ifa_d2.modeling.backbone import PaddedResNet
from ifa_d2.modeling.head_config import TARGETS
from ifa_d2.modeling.targets import LabelledPoints
from tests import heads
from tests.gpu import copied_bytes, count_waits

GPU = torch.device("cuda")
META = torch.device("meta")
# The alignment function of the paper encodes the position of each sample; the others do not.
WITH_POSITIONS = [
    {"alignment": "ifa"},
    {"alignment": "ifa", "local_ensemble": True},
    {"alignment": "ifa", "coupled_frequencies": True, "local_ensemble": True},
    {
        "alignment": "ifa",
        "local_ensemble": True,
        "integrated_encoding": True,
        "cell_decoding": True,
    },
    {"alignment": "ifa", "unfold": True},
    {"alignment": "ifa", "local_ensemble": True, "feature_slopes": True},
]
WITHOUT_POSITIONS = [
    {"alignment": "bilinear"},
    {"alignment": "upsampling"},
    {"alignment": "carafe"},
    {"alignment": "bilinear", "decoder": "conv"},
    {"alignment": "bilinear", "decoder": "ocr"},
]
METHODS = WITH_POSITIONS + WITHOUT_POSITIONS
SHAPES = {"res2": ShapeSpec(channels=4, stride=4), "res3": ShapeSpec(channels=8, stride=8)}
K = 5
POINT_TARGETS = tuple(name for name, targets in TARGETS.items() if targets.takes_points)
QUERIES = {
    "cells": GridQuery.regular(16, 24),
    "finer": GridQuery.regular(33, 50),
    "window": GridQuery.window((2, 1, 7, 5), (11, 6), (16, 24)),
    "points": PointQuery(torch.rand(2, 77, 2, dtype=torch.float64)),
    "subset": GridSubset(GridQuery.regular(33, 50), torch.randint(33, (99, 2))),
}


def name_of(method: dict[str, str | bool]) -> str:
    return "-".join(name if value is True else value for name, value in method.items())


def make_head(**options) -> IFASemSegHead:
    torch.manual_seed(0)
    options = {
        "in_features": tuple(SHAPES),
        "channels": 6,
        "hidden_dims": (8, 6),
        "aux_feature": "res3",
        "aux_channels": 4,
        **({"num_points": 40} if options.get("targets") in POINT_TARGETS else {}),
        **options,
    }
    head = heads.make_head(input_shape=SHAPES, num_classes=K, **options)
    torch.nn.init.normal_(head.alignment.predictor.weight)
    return head


def make_model(**options) -> FieldSegmentor:
    """A segmentor of two stages of one block each, in double precision.

    So a GPU's products differ from the CPU's by rounding alone, whatever its matrix units do with
    single precision.
    """
    head = make_head(**options)
    stages = [
        ResNet.make_stage(
            block_class=BasicBlock,
            num_blocks=1,
            in_channels=4,
            out_channels=SHAPES[name].channels,
            stride_per_block=[stride],
            norm="BN",
        )
        for name, stride in (("res2", 1), ("res3", 2))
    ]
    backbone = PaddedResNet(BasicStem(3, 4, "BN"), stages, out_features=tuple(SHAPES))
    mean_and_std = {"pixel_mean": [120.0] * 3, "pixel_std": [60.0] * 3}
    return FieldSegmentor(backbone=backbone, sem_seg_head=head, **mean_and_std).double()


def make_inputs(points: bool = False) -> list[dict[str, Tensor]]:
    """Two pictures with labels, some of them ignored; or with labelled points."""
    inputs = []
    for height, width in ((32, 48), (40, 32)):
        image = torch.randint(256, (3, height, width), dtype=torch.uint8)
        labels = torch.randint(K, (height, width))
        labels[:4] = 255
        one = {"image": image, "sem_seg": labels}
        if points:
            one["sem_seg_points"] = torch.rand(50, 2)
            one["sem_seg_point_labels"] = torch.randint(K, (50,))
            one["sem_seg_num_uniform_points"] = 20
            one["sem_seg_point_footprint"] = torch.tensor([0.1, 0.2])
        inputs.append(one)
    return inputs


def make_features(device: torch.device | str) -> dict[str, Tensor]:
    """Features (2, C, h, w) of two pictures of 64 x 96 pixels."""
    return {
        name: torch.randn(2, s.channels, 64 // s.stride, 96 // s.stride, device=device)
        for name, s in SHAPES.items()
    }


def to(query: GridQuery | PointQuery | GridSubset, device: torch.device | str):
    if isinstance(query, PointQuery):
        return PointQuery(query.coordinates.to(device))
    if isinstance(query, GridSubset):
        return GridSubset(query.grid, query.index.to(device))
    return query


def assert_equal(values: list[Tensor], expected: list[Tensor]) -> None:
    """The same to nine digits of the largest."""
    scale = max(float(e.abs().max()) for e in expected)
    for value, want in zip(values, expected, strict=True):
        assert (value.cpu() - want).abs().max() < 1e-9 * scale


# -- on meta


@pytest.mark.parametrize("name", ["cells", "finer", "window", "points"])
@pytest.mark.parametrize("method", [{"encoding": "none"}, *WITHOUT_POSITIONS], ids=name_of)
def test_decoding_on_meta(method, name):
    head = make_head(**method).to(META)
    query = to(QUERIES[name], META)
    logits = head.decode(head.levels.at_request(make_features(META)), query)
    samples = query.coordinates.shape[1:2] if name == "points" else query.size
    assert logits.device == META
    assert logits.dtype == torch.float32
    assert logits.shape == (2, K, *samples)


@pytest.mark.parametrize("method", WITHOUT_POSITIONS, ids=name_of)
def test_field_of_cpu_inputs_on_meta(method):
    """Images, points and pixel sizes are on the CPU, and the model is not."""
    field = make_model(**method).eval().to(META).fields(make_inputs()[:1])[0]
    logits = field.logits(size=(50, 70), window=(3, 5, 20, 40))
    assert (logits.device, logits.dtype, logits.shape) == (META, torch.float64, (K, 50, 70))
    at_points = field.at(torch.rand(9, 2))
    assert (at_points.device, at_points.dtype, at_points.shape) == (META, torch.float64, (9, K))


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_on_meta(targets):
    """Where the field is asked is chosen without a look at labels or logits."""
    options = {"sampler": PointSampler(num_points=40)} if targets in POINT_TARGETS else {}
    choose = TARGETS[targets](**options)
    labels = torch.zeros(2, 64, 96, dtype=torch.long, device=META)

    def decode(query: PointQuery) -> Tensor:
        return torch.empty(2, K, query.coordinates.shape[1], device=META)

    sample = choose((16, 24), labels, decode=decode, ignore_value=255)
    expected = {"grid": (64, 96), "jittered_grid": (16, 24)}.get(targets, (40,))
    assert sample.labels.shape == (2, *expected)
    assert (sample.labels.device, sample.labels.dtype) == (META, torch.int64)
    if targets in POINT_TARGETS:
        assert sample.query.coordinates.device == META
        assert sample.query.coordinates.shape == (2, 40, 2)


# -- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_losses_of_cpu_inputs(method, targets):
    model = make_model(targets=targets, **method)
    on_gpu = copy.deepcopy(model).to(GPU)
    inputs = make_inputs(points=targets in POINT_TARGETS)  # a GPU draws others than the CPU
    torch.manual_seed(1)
    expected = model(inputs)
    torch.manual_seed(1)
    losses = on_gpu(inputs)
    assert all(loss.is_cuda and loss.requires_grad for loss in losses.values())
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-6
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("targets", "points"),
    [*((each, False) for each in TARGETS), *((each, True) for each in POINT_TARGETS)],
)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_waits_of_a_training_step(method, targets, points):
    """The labels are checked once for all losses; the alignment function waits for nothing."""
    model = make_model(targets=targets, **method).to(GPU)
    inputs = make_inputs(points)
    model(inputs)
    with count_waits() as waits:
        model(inputs)
    assert not [place for place in waits if place.startswith("layers/")]
    assert sum(n for place, n in waits.items() if place.startswith("modeling/losses")) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_a_training_step_sends_its_batch(method, targets):
    model = make_model(targets=targets, **method).to(GPU)
    inputs = make_inputs(points=targets in POINT_TARGETS)
    model(inputs)
    data = sum(x.nbytes for one in inputs for x in one.values() if isinstance(x, Tensor))
    assert copied_bytes(lambda: model(inputs))["sent"] < data + 24_000  # and axes, in doubles


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_logits_of_a_field(method):
    model = make_model(**method).eval()
    inputs, points = make_inputs()[:1], torch.rand(9, 2)
    near, far = (each.fields(inputs)[0] for each in (model, copy.deepcopy(model).to(GPU)))
    assert_equal([far.logits(size=(50, 70))], [near.logits(size=(50, 70))])
    assert_equal([far.at(points)], [near.at(points)])


LABELS = {
    "pixels": lambda f: f.labels(),
    "window": lambda f: f.labels(size=(50, 70), window=(3, 5, 20, 40)),
    "bands": lambda f: torch.cat([band for _, band in f.iter_bands(size=(50, 70), height=20)]),
    "refined": lambda f: f.refined_labels(size=(50, 70)),
}


@pytest.mark.gpu
@pytest.mark.parametrize("way", LABELS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_labels_of_a_field(method, way):
    model = make_model(**method).eval()
    inputs = make_inputs()[:1]
    near, far = (
        LABELS[way](each.fields(inputs)[0]) for each in (model, copy.deepcopy(model).to(GPU))
    )
    assert far.device.type == "cpu"
    assert (far == near).float().mean() > 0.99  # but for ties


def large_field(ensemble: bool, coupled: bool) -> tuple[SegmentationField, int, int]:
    """The field on the GPU of a picture of 256 x 384, its pixels, and bytes of its axes' taps."""
    size, sizes = (256, 384), ((32, 48), (16, 24), (8, 12))
    alignment = ImplicitAlignment(
        in_channels=[4] * 3,
        num_classes=K,
        hidden_dims=(8,),
        num_frequencies=1,
        local_ensemble=ensemble,
        coupled_frequencies=coupled,
    ).eval()
    levels = [torch.randn(1, 4, *cells, device=GPU) for cells in sizes]
    taps = 3 * sum(size) * (2 if ensemble else 1)  # with cells, offsets, weights twice
    footprints = 2 * 3 * 8
    field = SegmentationField(alignment.to(GPU), levels, size)
    return field, size[0] * size[1], 4 * 8 * taps + footprints


@pytest.mark.gpu
@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_a_large_picture_copies_its_axes_alone(ensemble, coupled):
    """Taps are paired where the levels are, and labels leave as bytes."""
    field, pixels, axes = large_field(ensemble, coupled)
    field.labels()
    copied = copied_bytes(field.labels)
    assert copied["sent"] <= axes
    assert pixels <= copied["fetched"] <= pixels + 1000  # and whether a piece is finite


@pytest.mark.gpu
@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_decoding_a_large_picture_does_not_wait(ensemble, coupled):
    field, _, _ = large_field(ensemble, coupled)
    field.labels()
    with count_waits() as waits:
        field.labels()
    assert not [place for place in waits if place.startswith("layers/")]


@pytest.mark.gpu
def test_labels_of_views():
    model = make_model().eval()
    inputs = [{**make_inputs()[0], "height": 60, "width": 90}]
    views = {"scales": (1.0, 1.5), "flip": True, "window": (32, 32)}
    near, far = (
        MultiViewSegmentor(model=each, **views)(inputs)[0]["sem_seg"]
        for each in (model, copy.deepcopy(model).to(GPU))
    )
    assert (far == near).float().mean() > 0.99  # but for ties


@pytest.mark.gpu
def test_labels_of_views_come_as_bytes():
    model = MultiViewSegmentor(model=make_model().eval().to(GPU), scales=(1.0, 1.5), flip=True)
    inputs = [{**make_inputs()[0], "height": 60, "width": 90}]
    model(inputs)
    assert 60 * 90 <= copied_bytes(lambda: model(inputs))["fetched"] <= 60 * 90 + 1000


@pytest.mark.gpu
def test_a_subset_fetches_no_index():
    alignment = ImplicitAlignment(in_channels=[4, 4], num_classes=K, hidden_dims=(8,)).eval()
    levels = [torch.randn(1, 4, *cells, device=GPU) for cells in ((32, 48), (16, 24))]
    grid = GridQuery.regular(256, 384)
    query = GridSubset(grid, torch.stack([torch.randint(n, (999,)) for n in grid.size], 1).to(GPU))
    alignment.to(GPU)
    with torch.no_grad():
        alignment(levels, query)
        with count_waits() as waits:
            alignment(levels, query)
    assert not [place for place in waits if place.startswith("layers/queries")]


@pytest.mark.gpu
def test_a_loss_waits_for_nothing():
    criterion = OhemCrossEntropy(min_kept=10)
    logits, labels = torch.randn(2, K, 8, 8, device=GPU), torch.randint(K, (2, 8, 8), device=GPU)
    with count_waits() as waits:
        criterion(logits, labels)
    assert waits.total() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_layer_equals_cpu(name, ensemble, coupled):
    alignment = ImplicitAlignment(
        in_channels=(3, 4),
        num_classes=K,
        hidden_dims=(8, 6),
        num_frequencies=2,
        local_ensemble=ensemble,
        coupled_frequencies=coupled,
    ).double()
    levels = [torch.randn(2, c, 16 // s, 24 // s).double() for c, s in ((3, 1), (4, 4))]
    results = []
    for where in ("cpu", GPU):
        module = copy.deepcopy(alignment).to(where)
        inputs = [level.to(where).requires_grad_() for level in levels]
        logits = module(inputs, to(QUERIES[name], where))
        grads = torch.autograd.grad(logits.square().sum(), [*inputs, *module.parameters()])
        with torch.no_grad():
            tiles = module.eval()(inputs, to(QUERIES[name], where))
        results.append(([logits.detach(), tiles], grads))
    for expected, values in zip(*results, strict=True):
        assert_equal(values, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_head_equals_cpu(targets, method):
    head = make_head(targets=targets, **method).double()
    features = {name: x.double() for name, x in make_features("cpu").items()}
    labels, results = torch.randint(K, (2, 64, 96)), []
    points = torch.rand(2, 60, 2, dtype=torch.float64)
    for where in ("cpu", GPU):
        module = copy.deepcopy(head).to(where)
        wanted = labels.to(where)
        if targets in POINT_TARGETS:  # those a device draws are its own
            wanted = LabelledPoints(points.to(where), labels[:, 0, :60].to(where), 20)
        torch.manual_seed(1)
        _, losses = module({name: x.to(where) for name, x in features.items()}, wanted)
        parameters = list(module.parameters())
        grads = torch.autograd.grad(sum(losses.values()), parameters, materialize_grads=True)
        results.append(([loss.detach() for loss in losses.values()], grads))
    for expected, values in zip(*results, strict=True):
        assert_equal(values, expected)
