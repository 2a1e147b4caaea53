"""On a device: nothing is mixed with the CPU's, little is copied, and results are the CPU's."""

import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from torch import Tensor

from ifa_d2.layers import GridQuery, GridSubset, ImplicitAlignment, PointQuery
from ifa_d2.modeling import (
    FieldSegmentor,
    IFASemSegHead,
    MultiViewSegmentor,
    OhemCrossEntropy,
    SegmentationField,
)
from ifa_d2.modeling.backbone import PaddedResNet
from ifa_d2.modeling.targets import TARGETS, PointTargets

from .fake_device import FakeDevice

METHODS = [
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
    {"alignment": "bilinear"},
    {"alignment": "upsampling"},
    {"alignment": "carafe"},
    {"alignment": "bilinear", "decoder": "conv"},
    {"alignment": "bilinear", "decoder": "ocr"},
]
SHAPES = {"res2": ShapeSpec(channels=4, stride=4), "res3": ShapeSpec(channels=8, stride=8)}
K = 5


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
        "num_points": 40,
        **options,
    }
    head = IFASemSegHead(input_shape=SHAPES, num_classes=K, **options)
    torch.nn.init.normal_(head.alignment.predictor.weight)
    return head


def make_model(**options) -> FieldSegmentor:
    """A segmentor of two stages of one block each."""
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
    return FieldSegmentor(backbone=backbone, sem_seg_head=head, **mean_and_std)


def make_inputs(points: bool = False) -> list[dict[str, Tensor]]:
    """Two pictures with labels, some of them ignored."""
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


@pytest.fixture
def device():
    with FakeDevice() as entered:
        yield entered


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_training_losses(device, method, targets):
    model = make_model(targets=targets, **method)
    on_device = device.move(copy.deepcopy(model))
    for points in (False, True) if targets in ("points", "uncertain_points") else (False,):
        inputs = make_inputs(points)
        torch.manual_seed(1)
        expected = model(inputs)
        torch.manual_seed(1)
        device.forget()
        losses = on_device(inputs)
        assert all(loss.is_cuda and loss.requires_grad for loss in losses.values())
        for name, loss in expected.items():
            assert losses[name].item() == pytest.approx(loss.item(), rel=1e-4)
        waits = device.waits()
        layers = [place for place in waits if place.startswith("layers/")]
        assert not layers, f"the alignment function waits at {layers}"
        checks = [place for place in waits if place.startswith("modeling/losses")]
        assert sum(waits[place] for place in checks) == 1  # of labels, for all losses
        data = sum(x.nbytes for one in inputs for x in one.values() if isinstance(x, Tensor))
        assert device.sent() < data + 12_000


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_answers_of_a_field(device, method):
    model = make_model(**method).eval()
    on_device = device.move(copy.deepcopy(model))
    inputs = make_inputs()[:1]
    field, far = model.fields(inputs)[0], on_device.fields(inputs)[0]
    logits = field.logits(size=(50, 70))
    assert (far.logits(size=(50, 70)).cpu() - logits).abs().max() < 1e-4 * logits.abs().max()
    points = torch.rand(9, 2)
    assert (far.at(points).cpu() - field.at(points)).abs().max() < 1e-4 * logits.abs().max()
    for answer in (
        lambda f: f.labels(),
        lambda f: f.labels(size=(50, 70), window=(3, 5, 20, 40)),
        lambda f: torch.cat([band for _, band in f.iter_bands(size=(50, 70), height=20)]),
        lambda f: f.refined_labels(size=(50, 70)),
    ):
        assert (answer(far) == answer(field)).float().mean() > 0.99  # but for ties


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_a_large_picture_copies_its_axes_alone(device, ensemble, coupled):
    """Taps are paired where the levels are: what is sent grows with a picture's sides."""
    size, sizes = (256, 384), ((32, 48), (16, 24), (8, 12))
    alignment = ImplicitAlignment(
        in_channels=[4] * 3,
        num_classes=K,
        hidden_dims=(8,),
        num_frequencies=1,
        local_ensemble=ensemble,
        coupled_frequencies=coupled,
    ).eval()
    levels = [torch.randn(1, 4, *cells) for cells in sizes]
    expected = SegmentationField(alignment, levels, size).labels()
    field = SegmentationField(device.move(alignment), [level.cuda() for level in levels], size)
    device.forget()
    labels = field.labels()
    assert (labels == expected).float().mean() > 0.999
    taps = 3 * sum(size) * (2 if ensemble else 1)  # with cells, offsets, weights twice
    footprints = 2 * 3 * 8
    assert device.sent() <= 4 * 8 * taps + footprints
    assert device.fetched() == labels.numel()
    assert not [place for place in device.waits() if place.startswith("layers/")]


def test_labels_of_views_come_as_bytes(device):
    model = make_model().eval()
    inputs = [{**make_inputs()[0], "height": 60, "width": 90}]
    views = {"scales": (1.0, 1.5), "flip": True, "window": (32, 32)}
    expected = MultiViewSegmentor(model=copy.deepcopy(model), **views)(inputs)[0]["sem_seg"]
    device.move(model)
    device.forget()
    labels = MultiViewSegmentor(model=model, **views)(inputs)[0]["sem_seg"]
    assert (labels == expected).float().mean() > 0.99
    assert device.fetched() == labels.numel()


def test_refinement_fetches_no_index(device):
    alignment = ImplicitAlignment(in_channels=[4, 4], num_classes=K, hidden_dims=(8,)).eval()
    levels = [torch.randn(1, 4, *cells) for cells in ((32, 48), (16, 24))]
    grid = GridQuery.regular(256, 384)
    index = torch.stack([torch.randint(n, (999,)) for n in grid.size], 1)
    with torch.no_grad():
        expected = alignment(levels, GridSubset(grid, index))
        device.move(alignment)
        device.forget()
        logits = alignment([level.cuda() for level in levels], GridSubset(grid, index.cuda()))
    assert (logits.cpu() - expected).abs().max() < 1e-5
    fetched = [x for x in device.copies if not x.to_device and x.place.startswith("layers/queries")]
    assert not fetched


def test_labels_are_checked_once(device):
    criterion = OhemCrossEntropy(min_kept=10)
    logits, labels = torch.randn(2, K, 8, 8, device="cuda"), torch.randint(K, (2, 8, 8)).cuda()
    device.forget()
    loss = criterion(logits, labels)
    assert sum(device.waits().values()) == 1
    device.forget()
    assert float(criterion(logits, labels, checked=True)) == float(loss)
    assert not [place for place in device.waits() if place.startswith("modeling/")]


def test_a_mix_of_devices_is_refused(device):
    far = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match=r"aten.add.Tensor.*\[\(3,\)\]"):
        far + torch.ones(3)
    assert (far + torch.tensor(1.0)).tolist() == [2, 2, 2]  # a number may come from anywhere
    assert [(x.num_bytes, x.to_device) for x in device.copies] == [(12, False)]


# -- on a real device

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
QUERIES = {
    "cells": GridQuery.regular(16, 24),
    "finer": GridQuery.regular(33, 50),
    "window": GridQuery.window((2, 1, 7, 5), (11, 6), (16, 24)),
    "points": PointQuery(torch.rand(2, 77, 2, dtype=torch.float64)),
    "subset": GridSubset(GridQuery.regular(33, 50), torch.randint(33, (99, 2))),
}


def to(query: GridQuery | PointQuery | GridSubset, device: str):
    if isinstance(query, PointQuery):
        return PointQuery(query.coordinates.to(device))
    if isinstance(query, GridSubset):
        return GridSubset(query.grid, query.index.to(device))
    return query


def assert_equal(values: list[Tensor], expected: list[Tensor]) -> None:
    scale = max(float(e.abs().max()) for e in expected)
    for value, want in zip(values, expected, strict=True):
        assert (value.cpu() - want).abs().max() < 1e-9 * scale


@needs_cuda
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("coupled", [False, True])
def test_cuda_layer_equals_cpu(name, ensemble, coupled, device_name="cuda"):
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
    for where in ("cpu", device_name):
        module = copy.deepcopy(alignment).to(where)
        inputs = [level.to(where).requires_grad_() for level in levels]
        logits = module(inputs, to(QUERIES[name], where))
        grads = torch.autograd.grad(logits.square().sum(), [*inputs, *module.parameters()])
        with torch.no_grad():
            tiles = module.eval()(inputs, to(QUERIES[name], where))
        results.append(([logits.detach(), tiles], grads))
    for expected, values in zip(*results, strict=True):
        assert_equal(values, expected)


@needs_cuda
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_cuda_head_equals_cpu(targets, method, device_name="cuda"):
    head = make_head(targets=targets, **method).double()
    features = {
        name: torch.randn(2, s.channels, 64 // s.stride, 96 // s.stride).double()
        for name, s in SHAPES.items()
    }
    labels, results = torch.randint(K, (2, 64, 96)), []
    points = torch.rand(2, 60, 2, dtype=torch.float64)
    for where in ("cpu", device_name):
        module = copy.deepcopy(head).to(where)
        wanted = labels.to(where)
        if targets in ("points", "uncertain_points"):  # those a device draws are its own
            wanted = PointTargets(points.to(where), labels[:, 0, :60].to(where), 20)
        torch.manual_seed(1)
        _, losses = module({name: x.to(where) for name, x in features.items()}, wanted)
        parameters = list(module.parameters())
        grads = torch.autograd.grad(sum(losses.values()), parameters, materialize_grads=True)
        results.append(([loss.detach() for loss in losses.values()], grads))
    for expected, values in zip(*results, strict=True):
        assert_equal(values, expected)
