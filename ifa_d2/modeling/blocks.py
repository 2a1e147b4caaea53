"""Blocks of a backbone: recomputing their activations, rates of their layers."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from ..layers.recomputation import recomputed

# Where pyramids and wrappers have the network that they are around.
_INNER = ("bottom_up", "net")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def network_name(backbone: nn.Module) -> str:
    """Name of the network within a backbone, such as "bottom_up" of an FPN; "" is itself."""
    for name in _INNER:
        if isinstance(inner := getattr(backbone, name, None), nn.Module):
            return ".".join(filter(None, (name, network_name(inner))))
    return ""


def block_names(network: nn.Module) -> list[str]:
    """Names of a network's blocks, in the order of their registration.

    A block is a member of a ``Sequential`` or ``ModuleList`` that has two layers or more, and no
    row of blocks itself, as the stages of a Swin have.
    """
    return [name for name, _ in _blocks(network, "")]


def _blocks(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    members = _members(module)
    for name, child in module.named_children():
        if child in members and not any(map(_members, child.children())):
            yield f"{prefix}{name}", child
        else:
            yield from _blocks(child, f"{prefix}{name}.")


def _members(row: nn.Module) -> list[nn.Module]:
    """Members of a row of modules that have two layers or more; none of another module."""
    if not isinstance(row, nn.Sequential | nn.ModuleList):
        return []
    return [one for one in row if not isinstance(one, _CONTAINERS) and _num_layers(one) > 1]


def _num_layers(module: nn.Module) -> int:
    return sum(1 for part in module.modules() if next(part.parameters(False), None) is not None)


def recompute_activations(backbone: nn.Module) -> int:
    """Let a backbone's blocks be computed again for their gradients, instead of kept.

    In training alone; gradients are the same. Statistics of batch norms are taken once.

    Returns:
        The number of blocks.

    Raises:
        ValueError: there are no blocks, or none of them is trained.
    """
    network = backbone.get_submodule(network_name(backbone))
    names = block_names(network)
    if not names:
        raise ValueError(
            f"train.activation_checkpointing needs a backbone of blocks, got "
            f"{type(network).__name__}"
        )
    blocks = [network.get_submodule(name) for name in names]
    trained = [one for one in blocks if any(p.requires_grad for p in one.parameters())]
    if not trained:
        raise ValueError(
            "train.activation_checkpointing must be False for a frozen backbone, of which nothing "
            "is kept anyway"
        )
    for block in trained:
        block.forward = partial(_forward, block, block.forward)
    return len(trained)


def _forward(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not block.training:
        return forward(*args, **kwargs)
    return recomputed(forward, *args, norms_of=block, **kwargs)


def layer_decay_factors(network: nn.Module, decay: float) -> dict[str, float]:
    """Factors of the learning rate by parameter, which fall from the last layer to the first.

    What is before the first block is layer 0, each block one more, and what is after the last block
    the last one, of factor 1; each layer has ``decay`` times the factor of the next (Clark et al.
    2020, "ELECTRA", and Bao et al. 2022, "BEiT"). What stands between two blocks is of the later
    one's layer.

    Raises:
        ValueError: the network has no blocks.
    """
    names = block_names(network)
    if not names:
        raise ValueError(f"layer_decay needs a backbone of blocks, got {type(network).__name__}")
    factors, passed = {}, 0
    for parameter, _ in network.named_parameters():
        inside = [i for i, name in enumerate(names) if parameter.startswith(f"{name}.")]
        passed = inside[0] + 1 if inside else passed
        following = 1 if passed else 0
        layer = inside[0] + 1 if inside else passed + following
        factors[parameter] = decay ** (len(names) + 1 - layer)
    return factors
