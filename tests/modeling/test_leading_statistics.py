"""BatchNorm under points that do not look like the picture."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from ifa_d2.data.points import labels_at
from ifa_d2.layers import GridQuery, PointQuery
from ifa_d2.modeling import IFASemSegHead
from ifa_d2.modeling.leading_statistics import leading_statistics

SHAPES = {f"res{i + 2}": ShapeSpec(channels=4 * 2**i, stride=4 * 2**i) for i in range(4)}


def plain_statistics(norm: nn.BatchNorm2d, x: torch.Tensor, count: int) -> torch.Tensor:
    """The definition, written plainly."""
    leading = x[..., :count]
    mean = leading.mean((0, 2, 3), keepdim=True)
    var = ((leading - mean) ** 2).mean((0, 2, 3), keepdim=True)
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def test_leading_statistics_are_their_definition():
    norm = nn.BatchNorm2d(3, momentum=1.0).double()
    nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
    x = torch.randn(2, 3, 1, 20, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    with leading_statistics(norm, 6):
        out = norm(x)
    expected = plain_statistics(norm, other, 6)
    assert torch.allclose(out, expected)
    probe = torch.randn_like(out)
    parameters = list(norm.parameters())
    ours = torch.autograd.grad((out * probe).sum(), [x, *parameters])
    theirs = torch.autograd.grad((expected * probe).sum(), [other, *parameters])
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.allclose(norm.running_mean, x[..., :6].mean((0, 2, 3)))
    assert torch.allclose(norm(x), plain_statistics(norm, x, 20))  # as ever outside the block


@pytest.mark.parametrize("count", [1, 5, 7])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_finite_differences(count, affine, layout):
    norm = nn.BatchNorm2d(3, affine=affine).double()
    if affine:
        nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
    x = torch.randn(2, 3, 1, 7, dtype=torch.float64).contiguous(memory_format=layout)

    def normalised(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        with leading_statistics(norm, count):
            return torch.func.functional_call(norm, dict(zip(names, parameters, strict=True)), x)

    names = [name for name, _ in norm.named_parameters()]
    assert torch.autograd.gradcheck(normalised, (x.requires_grad_(), *norm.parameters()))


def test_statistics_of_all_points_are_those_of_batch_norm():
    ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 1, 20, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    with leading_statistics(ours, 20):
        out = ours(x)
    expected, probe = theirs(other), torch.randn_like(x)
    assert torch.allclose(out, expected, atol=1e-6)
    (out * probe).sum().backward(), (expected * probe).sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-6)
    pairs = zip(ours.buffers(), theirs.buffers(), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)


def test_half_precision_keeps_its_type_and_single_precision_statistics():
    norm = nn.BatchNorm2d(3)
    x = (torch.randn(2, 3, 1, 40) + 3).bfloat16().requires_grad_()
    single = x.detach().float().requires_grad_()
    with leading_statistics(norm, 9):
        out, expected = norm(x), norm(single)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected, atol=0.02)
    probe = torch.randn_like(expected)
    (out * probe).sum().backward(), (expected * probe).sum().backward()
    assert torch.allclose(x.grad.float(), single.grad, atol=0.02)


def test_no_statistics_without_a_count_or_in_eval_mode():
    norm, x = nn.BatchNorm2d(3), torch.randn(2, 3, 1, 20)
    with leading_statistics(norm, None):
        assert torch.allclose(norm(x), plain_statistics(norm, x, 20), atol=1e-5)
    norm.eval()
    expected = norm(x)
    with leading_statistics(norm, 6):
        assert torch.equal(norm(x), expected)


def test_hooks_go_when_the_block_fails():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(RuntimeError), leading_statistics(norm, 2):
        norm(torch.randn(2, 4, 1, 5))
    assert not norm._forward_hooks and not norm._forward_pre_hooks


def labelled_features(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Features that tell rare class 4 from the others, as those of a trained network do."""
    rare = (labels == 4).float()[:, None]
    features = {}
    for name, spec in SHAPES.items():
        cells = nn.functional.avg_pool2d(rare, spec.stride)
        features[name] = torch.randn(len(labels), spec.channels, *cells.shape[-2:]) + 4 * cells
    return features


SAMPLINGS = ["boundary", "class_balanced", "balanced_boundary", "uncertain"]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_inference_on_the_dense_grid_agrees_with_biased_training(sampling):
    """Logits of the picture, normalised by what training on biased points has gathered, are those
    of the picture's own statistics; with the statistics of all points they are not."""
    labels = torch.zeros(4, 64, 96, dtype=torch.int64)
    labels[:, 16:32, 16:32] = 4
    features = labelled_features(labels)
    kwargs = {"num_points": 4000, "targets": "points", "point_sampling": sampling}
    if sampling == "uncertain":
        kwargs.update(targets="uncertain_points", point_sampling="uniform")
    head = IFASemSegHead(
        input_shape=SHAPES,
        num_classes=5,
        channels=8,
        hidden_dims=(12, 8),
        aux_feature=None,
        local_ensemble=True,
        **kwargs,
    )
    for module in head.projections.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for norm in head.alignment.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    # Fine, and of no whole number of samples a cell: at the centres of pixels the higher
    # frequencies take a handful of values.
    query = GridQuery.regular(131, 197)

    def dense() -> torch.Tensor:
        return head.decode(head.levels(features), query)

    sampler = head.sampler

    def unsure(query: PointQuery) -> torch.Tensor:
        """Takes the rare class for the least certain one, as a network in training does."""
        sure = (labels_at(labels, query.coordinates) != 4).float()
        return torch.stack([sure, torch.zeros_like(sure)], dim=1)

    def biased_sample(size, targets, decode):
        return sampler(size, targets, unsure)

    def sample_of_equals(size, targets, decode):
        return dataclasses.replace(biased_sample(size, targets, decode), num_uniform=None)

    with torch.no_grad():
        own = dense()
        head.sampler = biased_sample
        head(features, labels)
        gathered = _with_running_statistics(head, dense)
        head.sampler = sample_of_equals
        head(features, labels)
        biased = _with_running_statistics(head, dense)
    scale = own.std()
    errors = [((logits - own).abs().mean() / scale).item() for logits in (gathered, biased)]
    assert errors[0] < 0.05, errors
    assert errors[1] > 5 * errors[0], errors


def _with_running_statistics(head, function):
    norms = [m for m in head.alignment.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    result = function()
    for norm in norms:
        norm.train()
    return result


_SYNCED = """
import sys, torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from ifa_d2.modeling.leading_statistics import leading_statistics
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
norm = NaiveSyncBatchNorm(3).double()
torch.manual_seed(0)
x = torch.randn(4, 3, 1, 12, dtype=torch.float64, requires_grad=True)
y = torch.randn(4, 3, 1, 12, dtype=torch.float64)
part = slice(2 * rank, 2 * rank + 2)
with leading_statistics(norm, 5):
    out = norm(x[part])
(out * y[part]).sum().backward()
grad = x.grad.clone()
torch.distributed.all_reduce(grad)
alone = torch.nn.BatchNorm2d(3).double()
z = x.detach().clone().requires_grad_()
with leading_statistics(alone, 5):
    expected = alone(z)
(expected * y).sum().backward()
assert torch.allclose(out, expected[part], atol=1e-10), "values"
assert torch.allclose(grad, z.grad, atol=1e-10), "gradients"
torch.distributed.destroy_process_group()
"""


def test_synchronised_norms_take_the_leading_points_of_all_processes(tmp_path: Path):
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SYNCED, str(rank), str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
