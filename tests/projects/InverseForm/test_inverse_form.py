"""The loss of tiles: its gradient above all, which the public code has not."""

from pathlib import Path

import pytest
import torch
from inverse_form import InverseFormLoss, cut_tiles
from inverse_net import InverseNet, save_inverse_net
from torch import Tensor, nn


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    """A network of random weights, of tiles of 8 x 8 pixels."""
    net = InverseNet(tile_size=8, num_cells=4, hidden_dims=(16,))
    nn.init.normal_(net.layers[-1].weight)
    save_inverse_net(net, tmp_path / "net.pth", {})
    return tmp_path / "net.pth"


def boundaries(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, height, width) > 0.7


@pytest.mark.parametrize("size", [(16, 24), (19, 9), (5, 3), (8, 8)])
def test_the_gradient_to_logits_is_there(net_file: Path, size: tuple[int, int]) -> None:
    loss = InverseFormLoss(net_file=net_file)
    logits = torch.randn(2, *size, requires_grad=True)
    loss(logits.sigmoid(), boundaries(2, *size)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).float().mean() > 0.9


def test_the_gradient_is_right(net_file: Path) -> None:
    loss = InverseFormLoss(net_file=net_file).double()
    logits = torch.randn(2, 9, 7, dtype=torch.float64, requires_grad=True)
    target = boundaries(2, 9, 7)
    assert torch.autograd.gradcheck(lambda one: loss(one.sigmoid(), target), logits)


def test_the_gradient_is_that_of_a_loss_to_descend(net_file: Path) -> None:
    loss = InverseFormLoss(net_file=net_file)
    logits = torch.randn(1, 16, 16, requires_grad=True)
    target = boundaries(1, 16, 16)
    found = []
    for _ in range(30):
        value = loss(logits.sigmoid(), target)
        (gradient,) = torch.autograd.grad(value, logits)
        found.append(value.item())
        logits = (logits - 20 * gradient).detach().requires_grad_()
    assert found[-1] < 0.8 * found[0]


def test_a_softmax_over_the_one_channel_would_have_none(net_file: Path) -> None:
    """As in the public code: why probabilities are of a sigmoid."""
    loss = InverseFormLoss(net_file=net_file)
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    loss(logits.log_softmax(dim=1)[:, 0], boundaries(2, 16, 16)).backward()
    assert (logits.grad == 0).all()


def test_the_network_stays_as_it_is(net_file: Path) -> None:
    loss = InverseFormLoss(net_file=net_file).train()
    before = [layer.weight.clone() for layer in loss.net.layers]
    assert not list(loss.parameters()) and not loss.state_dict()
    logits = nn.Parameter(torch.randn(1, 16, 16))
    optimizer = torch.optim.SGD([logits, *loss.parameters()], lr=1.0)
    loss(logits.sigmoid(), boundaries(1, 16, 16)).backward()
    optimizer.step()
    for layer, weight in zip(loss.net.layers, before, strict=True):
        assert torch.equal(layer.weight, weight) and not layer.weight.requires_grad


def test_it_is_the_mean_norm_of_tiles_with_boundaries(net_file: Path) -> None:
    loss = InverseFormLoss(net_file=net_file, loss_weight=0.5)
    prediction, target = torch.rand(2, 16, 24), boundaries(2, 16, 24)
    target[0, :8, 8:16] = False  # a tile without any
    found = []
    for maps, true in zip(prediction, target, strict=True):
        for y in (0, 8):
            for x in (0, 8, 16):
                part = slice(y, y + 8), slice(x, x + 8)
                if true[part].any():
                    estimate = loss.net(true[part][None].float(), maps[part][None])
                    found.append(torch.linalg.matrix_norm(estimate - torch.eye(3)))
    assert len(found) == 11
    torch.testing.assert_close(loss(prediction, target), 0.5 * torch.cat(found).mean())


def test_targets_without_boundaries_cost_nothing(net_file: Path) -> None:
    loss = InverseFormLoss(net_file=net_file)
    logits = torch.randn(2, 16, 16, requires_grad=True)
    value = loss(logits.sigmoid(), torch.zeros(2, 16, 16, dtype=torch.bool))
    value.backward()
    assert value == 0 and (logits.grad == 0).all()


def test_tiles_lie_by_rows_and_are_filled_with_zeros() -> None:
    maps = torch.rand(2, 10, 13) + 1
    tiles = cut_tiles(maps, 6)
    assert tiles.shape == (2 * 2 * 3, 6, 6)
    assert torch.equal(tiles[1], maps[0, :6, 6:12])
    assert torch.equal(tiles[9][:4], maps[1, 6:, :6])
    assert (tiles[9][4:] == 0).all() and (tiles[2][:, 1:] == 0).all()
    assert tiles.sum().item() == pytest.approx(maps.sum().item())
    # Equal tiles in another order are the same loss.
    assert torch.equal(
        cut_tiles(maps[:, :6, :6].repeat(1, 2, 2), 6), tiles[[0, 0, 0, 0, 6, 6, 6, 6]]
    )


def test_what_is_refused(net_file: Path) -> None:
    with pytest.raises(ValueError, match=r"loss_weight of the inverse form must be above 0, got 0"):
        InverseFormLoss(net_file=net_file, loss_weight=0.0)
    with pytest.raises(ValueError, match=r"tile_size must be 8, .* got 16"):
        InverseFormLoss(net_file=net_file, tile_size=16)
    with pytest.raises(FileNotFoundError, match="inverse_form=null"):
        InverseFormLoss(net_file=net_file.with_name("none.pth"))
