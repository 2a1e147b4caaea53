"""Blocks of backbones: their gradients when they are computed again, and their rates."""

import copy

import pytest
import timm
import torch
from detectron2.modeling import FPN, ResNet, ViT
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, get_vit_lr_decay_rate
from timm.optim import param_groups_layer_decay
from torch import nn

from ifa_d2.modeling import TimmBackbone
from ifa_d2.modeling.blocks import (
    block_names,
    layer_decay_factors,
    network_name,
    recompute_activations,
)


def make_resnet() -> ResNet:
    sizes = [(8, 8, 1), (8, 16, 2)]
    stages = [
        ResNet.make_stage(
            BasicBlock, 2, in_channels=i, out_channels=o, stride_per_block=[s, 1], norm="BN"
        )
        for i, o, s in sizes
    ]
    return ResNet(BasicStem(3, 8, norm="BN"), stages, out_features=["res2", "res3"])


def make_fpn() -> FPN:
    return FPN(make_resnet(), ["res2", "res3"], out_channels=8)


def make_vit() -> ViT:
    return ViT(
        img_size=64,
        embed_dim=16,
        depth=3,
        num_heads=2,
        drop_path_rate=0.2,
        window_size=2,
        window_block_indexes=(0, 1),
        use_rel_pos=True,
        out_feature="last",
    )


def make_timm(name: str) -> TimmBackbone:
    return TimmBackbone(model_name=name, out_features=("res4", "res5"))


BACKBONES = {
    "resnet": (make_resnet, 4),
    "fpn": (make_fpn, 4),
    "vit": (make_vit, 3),
    **{
        name: (lambda name=name: make_timm(name), count)
        for name, count in (("test_resnet", 5), ("test_convnext", 4), ("test_efficientnet", 5))
    },
}


def _outputs(backbone: nn.Module, image: torch.Tensor) -> tuple[list, list, int]:
    """Features, gradients, and how many numbers are kept between the two passes."""
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = list(backbone(image).values())
    number = sum(kept)
    sum(feature.square().mean() for feature in features).backward()
    gradients = [p.grad for p in backbone.parameters()]
    return [feature.detach() for feature in features], gradients, number


@pytest.mark.parametrize("name", BACKBONES)
def test_recomputed_gradients_are_the_same(name: str) -> None:
    make, _ = BACKBONES[name]
    torch.manual_seed(0)
    kept = make().train()
    again = copy.deepcopy(kept)
    assert recompute_activations(again) > 0
    image = torch.randn(2, 3, 64, 64)
    expected, found = _outputs(kept, image), _outputs(again, image)
    for values, others in zip(expected[:2], found[:2], strict=True):
        for value, other in zip(values, others, strict=True):
            assert (value is None) == (other is None)
            assert value is None or torch.allclose(value, other, rtol=1e-5, atol=1e-7)
    assert found[2] < 0.7 * expected[2]
    # Statistics are taken once, and nothing of it is in a checkpoint.
    states = [one.state_dict() for one in (kept, again)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][key], states[1][key]) for key in states[0])


def test_nothing_is_computed_again_in_evaluation() -> None:
    backbone = make_resnet()
    recompute_activations(backbone)
    image = torch.randn(1, 3, 32, 32)
    expected = copy.deepcopy(backbone).eval()(image)["res3"]
    assert torch.equal(backbone.eval()(image)["res3"], expected)
    with torch.no_grad():
        backbone.train()(image)


def test_what_has_nothing_to_compute_again() -> None:
    with pytest.raises(ValueError, match="needs a backbone of blocks"):
        recompute_activations(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="must be False for a frozen backbone"):
        recompute_activations(make_resnet().requires_grad_(False))


@pytest.mark.parametrize("name", ["resnet", "fpn", "vit"])
def test_blocks_are_found_in_order(name: str) -> None:
    make, count = BACKBONES[name]
    backbone = make()
    inner = network_name(backbone)
    assert inner == ("bottom_up" if name == "fpn" else "")
    names = block_names(backbone.get_submodule(inner))
    assert len(names) == count and names == sorted(names)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "swin_s3_tiny_224"]
)
def test_rates_of_layers_are_those_of_timm(name: str) -> None:
    """But for what follows the blocks, which timm counts to the last of them."""
    with torch.device("meta"):
        model = timm.create_model(name)
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    factors = layer_decay_factors(model, 0.7)
    last = list(factors.values()).index(1.0)
    assert last > 30 and set(list(factors.values())[last:]) == {1.0}
    compared = list(factors)[:last]
    assert {n: factors[n] for n in compared} == pytest.approx({n: expected[n] for n in compared})


def test_rates_of_layers_are_those_of_vitdet() -> None:
    model = nn.ModuleDict({"backbone": make_vit()})
    factors = layer_decay_factors(model["backbone"], 0.6)
    expected = {
        name: get_vit_lr_decay_rate(f"backbone.{name}", 0.6, num_layers=3) for name in factors
    }
    assert factors == pytest.approx(expected)
    pyramid = SimpleFeaturePyramid(make_vit(), "last", 8, (2.0, 1.0), norm="LN")
    assert network_name(pyramid) == "net"
    with pytest.raises(ValueError, match="layer_decay needs a backbone of blocks, got Linear"):
        layer_decay_factors(nn.Linear(2, 2), 0.6)
